# Outlives the owner of a test cluster and clears away what it left: $1 is the cluster's directory ("" to keep it).
# Standard input is a pipe from the owner with lines "watch PID START"; "done" means that nothing is left to do, and the
# end of input without it that the owner died.
trap '' HUP INT QUIT TERM TSTP TTIN TTOU
cd /

# Whether the process that the owner told us of still runs: the same pid with the same start time, and no zombie.
runs() {
    { read -r stat </proc/"$1"/stat; } 2>/dev/null || return 1
    watched=$2
    # shellcheck disable=SC2086 # the fields are meant to be split
    set -- ${stat##*)}
    [ "$1" != Z ] && [ "$1" != X ] && [ "${20}" = "$watched" ]
}

watched_processes=
while read -r word pid start; do
    case $word in
        watch) watched_processes="$watched_processes $pid:$start" ;;
        done) exit 0 ;;
    esac
done

for entry in $watched_processes; do
    runs "${entry%:*}" "${entry#*:}" && kill -KILL "${entry%:*}" 2>/dev/null
done
for entry in $watched_processes; do
    tries=0
    while runs "${entry%:*}" "${entry#*:}" && [ "$tries" -lt 200 ]; do
        tries=$((tries + 1))
        sleep 0.05
    done
done

[ -n "$1" ] || exit 0
# A process that was just being started may still write into the directory: remove it until it stays away.
quiet=0
tries=0
while [ "$quiet" -lt 3 ] && [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
    if [ -e "$1" ]; then
        quiet=0
        rm -rf -- "$1" 2>/dev/null
    else
        quiet=$((quiet + 1))
    fi
    sleep 0.05
done

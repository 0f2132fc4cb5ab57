# Makes the directory of a test cluster, removes it at the end, and outlives an owner that was
# killed.
#
# $1 is the directory in which to make one ("" if the owner has its own); its path is printed.
# Standard input is a pipe from the owner with lines "watch PID START"; "done" means that all
# processes have ended. The end of input without it means that the owner died.
trap '' HUP INT QUIT PIPE TERM TSTP TTIN TTOU
cd /

directory=
if [ -n "$1" ]; then
    directory=$(mktemp -d -- "$1/rbd-testcluster.XXXXXX") || exit 1
fi
printf '%s\n' "$directory"

# Whether a process of the owner still runs: the same pid with the same start time, and no zombie.
runs() {
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    watched=$2
    # shellcheck disable=SC2086 # the fields are meant to be split
    set -- ${stat##*)}
    [ "$1" != Z ] && [ "$1" != X ] && [ "${20}" = "$watched" ]
}

watched_processes=
orderly=
while read -r word pid start; do
    case $word in
        watch) watched_processes="$watched_processes $pid:$start" ;;
        done) orderly=yes ;;
    esac
done

if [ -n "$orderly" ]; then
    [ -z "$directory" ] || rm -rf -- "$directory"
    exit
fi

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

[ -n "$directory" ] || exit 0
# A process that was just being started may still write into the directory: remove it until it stays
# removed.
quiet=0
tries=0
while [ "$quiet" -lt 3 ] && [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
    if [ -e "$directory" ]; then
        quiet=0
        rm -rf -- "$directory" 2>/dev/null
    else
        quiet=$((quiet + 1))
    fi
    sleep 0.05
done

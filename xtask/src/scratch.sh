# Makes a directory after the pattern $1, prints its path, and removes it when the owner has
# finished or died.
#
# Standard input is a pipe from the owner. It sends a line "done"; the end without it means that the
# owner died. Before the removal, all processes end whose environment has the directory's path in
# the variable $2. They have a few seconds to end by themselves, as they do after Ctrl-C.
trap '' HUP INT QUIT PIPE TERM
directory=$(mktemp -d -- "$1") || exit 1
printf '%s\n' "$directory"
exec >/dev/null 2>&1

# Lists the environments that have it. (The exit status is ignored: it is a failure if some cannot
# be read.)
marked() {
    grep --files-with-matches --no-messages --null-data --line-regexp --fixed-strings "$1=$directory" /proc/[0-9]*/environ
}

read -r word
if [ "$word" != done ]; then
    tries=0
    while processes=$(marked "$2"); [ -n "$processes" ] && [ "$tries" -lt 200 ]; do
        tries=$((tries + 1))
        # Repeated, because a process may be starting another one.
        [ "$tries" -lt 100 ] || printf '%s\n' "$processes" | while IFS=/ read -r _ _ pid _; do kill -KILL "$pid"; done
        sleep 0.1
    done
fi

# A process that is ending may still write into it.
tries=0
until rm -rf -- "$directory" && [ ! -e "$directory" ] || [ "$tries" -ge 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
[ ! -e "$directory" ]

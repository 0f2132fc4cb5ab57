# Makes a directory after the pattern $1, prints its path, and removes it when the owner is done with it, or dead.
#
# Standard input is a pipe from the owner: a line "done", or its end without one, which is the owner's death. Then the
# processes go first whose environment has the directory's path in the variable $2: they have a few seconds to end by
# themselves, as after Ctrl-C they do.
trap '' HUP INT QUIT PIPE TERM
directory=$(mktemp -d -- "$1") || exit 1
printf '%s\n' "$directory"
exec >/dev/null 2>&1

# The environments that have it. (The exit status tells nothing: it is that of a failure when some cannot be read.)
marked() {
    grep --files-with-matches --no-messages --null-data --line-regexp --fixed-strings "$1=$directory" /proc/[0-9]*/environ
}

read -r word
if [ "$word" != done ]; then
    tries=0
    while processes=$(marked "$2"); [ -n "$processes" ] && [ "$tries" -lt 200 ]; do
        tries=$((tries + 1))
        # Again and again: one may just be starting another.
        [ "$tries" -lt 100 ] || printf '%s\n' "$processes" | while IFS=/ read -r _ _ pid _; do kill -KILL "$pid"; done
        sleep 0.1
    done
fi

# Something that is just ending may still write into it.
tries=0
until rm -rf -- "$directory" && [ ! -e "$directory" ] || [ "$tries" -ge 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
[ ! -e "$directory" ]

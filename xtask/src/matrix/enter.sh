# Runs a command in the root of a release: its own files, of which nothing is changed, and processes of its own.
#
#   sh enter.sh ROOT SCRATCH "READ ONLY PATHS" COMMAND…
#
# SCRATCH can be written at its own path, the read-only paths be read at theirs. The network is the host's, so that clients
# outside reach a cluster inside. This is process 1 of a process namespace: when it ends, the rest is killed.
set -e
root=$1 scratch=$2 readable=$3
shift 3
layers=$(mktemp -d -- "$scratch/root.XXXXXX")
mount -t tmpfs layers "$layers"
mkdir "$layers/upper" "$layers/work" "$layers/all"
mount -t overlay -o "lowerdir=$root,upperdir=$layers/upper,workdir=$layers/work" root "$layers/all"
cd "$layers/all"
mount -t tmpfs tmp tmp
mkdir -p ".$scratch"
mount --bind "$scratch" ".$scratch"
for path in $readable; do
    mkdir -p ".$path"
    mount --bind -o ro "$path" ".$path"
done
mount --rbind /dev dev
mount -t proc proc proc
status=0
chroot . env --chdir="$scratch" "$@" || status=$?

# What the command started is given some seconds to end. (Waiting for `sleep` reaps what has ended.)
tries=0
while sleep 0.1; set -- proc/[0-9]*; [ $# -gt 1 ] && [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
done
if [ $# -gt 1 ]; then
    shift
    echo "error: the command left behind:"
    for process; do
        tr '\0' ' ' <"$process/cmdline"
        echo
    done
    status=1
fi
cd /
umount -l "$layers"
rmdir "$layers"
exit "$status"

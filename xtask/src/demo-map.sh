# The kernel's part of the demo: runs inside the virtual machine, with the examples of this
# repository.
set -eu -o pipefail
image=rbd/demo-map

step() { printf '\n- %s\n' "$1"; }
run() { printf '    $ %s\n' "$*"; "$@" 2>&1 | sed 's/^/    /'; }

step "the kernel $(uname -r)"
create --size 128M --image-feature layering,exclusive-lock,journaling "$image" >/dev/null

step "map: this kernel has no journaling, so it is refused, with a plan"
printf '    $ map %s\n' "$image"
if map "$image" >/tmp/said 2>&1; then
    echo "the mapping should have been refused" >&2
    exit 1
fi
sed 's/^/    /' /tmp/said
grep -q 'disable journaling' /tmp/said

step "the plan carried out"
run feature disable "$image" journaling

step "map"
device=$(map "$image")
run showmapped

step "a file system on $device, and a file in it"
run mkfs.ext4 -q -E nodiscard "$device"
mkdir -p /mnt
mount -t ext4 -o nosuid,nodev "$device" /mnt
echo 'hello ceph' >/mnt/hello
umount /mnt
unmap "$device"

step "mapped again: the file is there"
device=$(map "$image")
mount -t ext4 -o ro,nosuid,nodev "$device" /mnt
run cat /mnt/hello
[ "$(cat /mnt/hello)" = 'hello ceph' ]
umount /mnt

step "unmap"
run unmap "$device"
[ -z "$(showmapped)" ]
rm -f /tmp/said
echo
echo "what was written through the kernel was read back"

#!/bin/sh
# The guest's first process: devices, modules, network, agent. Its output goes to the console.
export PATH=/usr/local/bin:/usr/sbin:/usr/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts

. /etc/testvm.conf # MODULES, UDEV
modprobe -a $MODULES || echo "testvm: some of these modules did not load: $MODULES"

# The host's loopback addresses are reached unchanged through QEMU's user network, because monitors
# send their clients the addresses of other daemons. So the guest's own loopback stays down.
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
ip route add 127.0.0.0/8 via 10.0.2.2 dev eth0

if [ "$UDEV" = 1 ]; then
    /usr/lib/systemd/systemd-udevd --daemon
    udevadm trigger --action=add
    udevadm settle --timeout=30
fi

# The port's device appears after the virtio-serial driver has contacted the host.
port=
for try in $(seq 500); do
    for name in /sys/class/virtio-ports/*/name; do
        [ -e "$name" ] && [ "$(cat "$name")" = "$PORT" ] && port=$(basename "$(dirname "$name")")
    done
    [ -n "$port" ] && break
    usleep 20000
done
# Print all kernel messages from here on.
dmesg -n 7
/usr/lib/testvm/agent "/dev/$port"
echo "testvm: the agent ended with status $?"
sync
poweroff -f

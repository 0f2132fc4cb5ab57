# Makes a virtual machine a node of Kubernetes: cgroups, containerd and the kubelet.
#
#   sh node.sh NAME
set -e
name=$1

# A container's root must not lie on the first root of the kernel, which nothing can replace. So
# the node runs on a second mount of it.
if [ -z "$second" ]; then
    mkdir -p /node /var/lib/kubelet /var/lib/containerd
    for place in /var/lib/kubelet /var/lib/containerd /run /tmp; do mount -t tmpfs tmpfs "$place"; done
    mount -t tmpfs cgroup /sys/fs/cgroup
    grep '1$' /proc/cgroups | while read -r group _; do
        mkdir "/sys/fs/cgroup/$group"
        mount -t cgroup -o "$group" cgroup "/sys/fs/cgroup/$group"
    done
    mount -o rbind / /node
    cd /node
    mount -o move . /
    second=yes exec chroot . sh "$0" "$name"
fi

mount --make-rshared /
# The machine's own addresses are reached through the loopback device. Its usual address stays away:
# 127.0.0.1 leads to the host.
ip link set lo up
ip addr del 127.0.0.1/8 dev lo
setsid containerd --log-level warn </dev/null >/var/log/containerd.log 2>&1 &
tries=0
until ctr version >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || { tail /var/log/containerd.log >&2; exit 1; }
    sleep 0.5
done
for image in /images/*.tar; do ctr --namespace k8s.io images import "$image"; done

setsid kubelet --hostname-override="$name" --node-ip=10.0.2.15 --kubeconfig=/etc/kubernetes/kubeconfig \
    --cert-dir=/var/lib/kubelet/pki --container-runtime=remote \
    --container-runtime-endpoint=unix:///run/containerd/containerd.sock --cgroup-driver=cgroupfs \
    --enforce-node-allocatable= --eviction-hard= --fail-swap-on=false --resolv-conf= \
    --sync-frequency=10s --cluster-dns=10.96.0.10 --cluster-domain=cluster.local \
    --make-iptables-util-chains=false --healthz-port=0 --read-only-port=0 \
    </dev/null >/var/log/kubelet.log 2>&1 &

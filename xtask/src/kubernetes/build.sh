# Builds the programs of Kubernetes from Debian's source package.
#
#   sh build.sh WORK GO OUT
#
# WORK has the unpacked source in gopath/src/k8s.io/kubernetes. GO is the folder of Go 1.15, which
# this release needs. The programs go to OUT, each when it is complete.
set -e
work=$1 go=$2 out=$3
export GOROOT="$go" GOPATH="$work/gopath" GOCACHE="$work/cache" GOTMPDIR="$work"
export GO111MODULE=off GOPROXY=off GOFLAGS= CGO_ENABLED=0 PATH="$go/bin:$PATH"
cd "$GOPATH/src/k8s.io/kubernetes"

# Kubernetes before 1.26 sends the path of a socket as the HTTP/2 authority, which Rust's HTTP/2
# library refuses. Newer ones send localhost.
for file in pkg/volume/csi/csi_client.go pkg/kubelet/pluginmanager/operationexecutor/operation_generator.go; do
    grep -q 'WithAuthority' "$file" || sed -i 's/grpc\.WithInsecure()/grpc.WithAuthority("localhost"), &/' "$file"
    grep -q 'WithAuthority' "$file"
done

# Builds a program under its new name.
build() {
    [ ! -e "$out/$1" ] || return 0
    echo "building $1"
    flags="-s -w"
    # The second package is that of what the API server says of itself.
    for package in component-base/version client-go/pkg/version; do
        package=k8s.io/kubernetes/vendor/k8s.io/$package
        flags="$flags -X $package.gitVersion=v1.20.2 -X $package.gitMajor=1 -X $package.gitMinor=20"
    done
    go build -o "$work/$1" -ldflags "$flags" "./cmd/$1"
    mv "$work/$1" "$out/$1"
}

build kubelet
build kube-scheduler
build kube-controller-manager

# The API server's description of its types is generated from them.
if [ ! -e "$out/kube-apiserver" ]; then
    echo "describing the types of kube-apiserver"
    go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
    types=$(grep --dereference-recursive --files-with-matches --include='*.go' --exclude='*_test.go' \
        '^// *+k8s:openapi-gen=' cmd pkg plugin vendor/k8s.io | xargs -n1 dirname | sort -u |
        grep -v -e '^vendor/k8s.io/code-generator/' -e '^vendor/k8s.io/sample-apiserver/' |
        sed 's|^|k8s.io/kubernetes/|' | paste -sd, -)
    "$work/openapi-gen" --logtostderr --input-dirs "$types" --output-base "$GOPATH/src" \
        --output-package k8s.io/kubernetes/pkg/generated/openapi --output-file-base zz_generated.openapi \
        --go-header-file vendor/k8s.io/code-generator/hack/boilerplate.go.txt --report-filename "$work/violations"
fi
build kube-apiserver

#!/bin/sh
# Build the managed plugin: build/plugin/config.json and build/plugin/rootfs/, ready for
# «docker plugin create hawse:latest build/plugin».
#
#   build_plugin.sh            as an image with docker build; in a chroot where no engine is at hand
#   build_plugin.sh --docker   with docker build or not at all
#   build_plugin.sh --chroot   in a chroot: needs root, and debootstrap for the first time
#
# Both run plugin/install_rootfs.sh, in the order of plugin/Dockerfile. The chroot keeps what it has installed in
# $HAWSE_CACHE (default /var/cache/hawse), so that after a change of the code alone only the code is copied.
set -eu
cd "$(dirname "$0")/.."

BUILD=build/plugin
WHEELS=build/wheels
LAYER=build/plugin.layer # names the installed packages that build/plugin/rootfs was made from
BASE_IMAGE=debian:trixie-slim
CACHE=${HAWSE_CACHE:-/var/cache/hawse}
BASE=$CACHE/base-trixie
PYTHON=3.13 # of Debian trixie

started=$(date +%s)
say() { printf '%4d s  %s\n' $(($(date +%s) - started)) "$*"; }
fail() {
    echo "build_plugin: $*" >&2
    exit 1
}

# The wheels of the lock, fetched with the host's pip and therefore with the host's settings (index, certificates); what
# pip has fetched before it does not fetch again. Without pip on the host, the build fetches them itself.
fetch_wheels() {
    pip="python3 -m pip"
    [ -x .venv/bin/pip ] && pip=.venv/bin/pip
    if ! $pip --version >/dev/null 2>&1; then
        return
    fi
    machine=$(uname -m)
    mkdir -p "$WHEELS"
    if [ "$(cat "$WHEELS/.lock" 2>/dev/null)" = "$(sha256sum <requirements/plugin.lock)" ]; then
        return
    fi
    rm -f "$WHEELS"/*.whl
    say "fetching the wheels of requirements/plugin.lock"
    $pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
        --python-version "$PYTHON" --implementation cp --abi "cp$(echo "$PYTHON" | tr -d .)" --abi abi3 --abi none \
        --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" \
        --platform any --dest "$WHEELS" --requirement requirements/plugin.lock
    sha256sum <requirements/plugin.lock >"$WHEELS/.lock"
}

engine_runs() {
    command -v docker >/dev/null && docker info >/dev/null 2>&1
}

# An image named like the one that would be pulled, made with debootstrap.
import_base_image() {
    say "$BASE_IMAGE cannot be pulled: making it with debootstrap"
    sh scripts/base_image.sh trixie "$BASE"
    tar --create --directory "$BASE" --one-file-system . | docker import - "$BASE_IMAGE" >/dev/null
}

# The BPF programs, by this host's compiler; whoever runs the plugin has none.
compile_programs() {
    say "compiling the BPF programs"
    /usr/bin/python3 -m datapath.compile >/dev/null || fail "the BPF programs were not compiled: it takes root, Python 3.11," \
        "and the packages python3-bpfcc and linux-libc-dev"
}

build_with_docker() {
    docker image inspect "$BASE_IMAGE" >/dev/null 2>&1 || docker pull --quiet "$BASE_IMAGE" >/dev/null 2>&1 ||
        import_base_image
    say "docker build"
    docker build --network host --build-arg "BASE=$BASE_IMAGE" --tag hawse-rootfs:build --file plugin/Dockerfile .
    say "exporting the root file system"
    container=$(docker create hawse-rootfs:build /bin/true)
    rm -rf "$BUILD/rootfs" "$LAYER"
    mkdir -p "$BUILD/rootfs"
    docker export "$container" | tar --extract --directory "$BUILD/rootfs"
    docker rm "$container" >/dev/null
}

# Run one step of install_rootfs.sh with the directory $1 as the root, in which the file systems that package installation
# needs are mounted for as long as the step takes: they are in a mount namespace of their own and go with it.
chroot_step() {
    root=$1
    shift
    # shellcheck disable=SC2016 # expanded by the inner shell
    unshare --mount sh -euc '
        root=$1; shift
        mkdir -p "$root/build"
        mount --bind "$PWD" "$root/build"
        mount -t proc proc "$root/proc"
        mount --bind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/tmp"
        [ -e "$root/etc/resolv.conf" ] || : >"$root/etc/resolv.conf"
        mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
        # Some packages start their service when they are installed.
        printf "#!/bin/sh\nexit 101\n" >"$root/tmp/policy-rc.d"
        chmod 755 "$root/tmp/policy-rc.d"
        : >"$root/usr/sbin/policy-rc.d"
        mount --bind "$root/tmp/policy-rc.d" "$root/usr/sbin/policy-rc.d"
        exec chroot "$root" sh /build/plugin/install_rootfs.sh "$@"
    ' sh "$root" "$@"
    rm -f "$root/usr/sbin/policy-rc.d"
    rmdir "$root/build"
}

# Packages of Debian and wheels, installed once for each state of what they are made from.
installed_layer() {
    key=$(cat plugin/install_rootfs.sh requirements/plugin.lock "$BASE/etc/debian_version" "$BASE/var/lib/dpkg/status" |
        sha256sum | cut -c1-16)
    layer=$CACHE/plugin-$key
    if [ ! -d "$layer" ]; then
        work=$layer.$$
        trap 'rm -rf "$work" "$work.wheels"' EXIT
        say "installing Debian's packages"
        cp --archive "$BASE" "$work"
        chroot_step "$work" runtime
        say "installing the wheels"
        cp --archive "$work" "$work.wheels"
        chroot_step "$work.wheels" wheels /build/requirements/plugin.lock /build/$WHEELS /srv/site-packages
        cp --archive "$work.wheels/srv/site-packages/." "$work/usr/local/lib/python$PYTHON/dist-packages/"
        rm -rf "$work.wheels"
        # One layer is kept: the one that the next build is likely to need.
        rm -rf "$CACHE"/plugin-????????????????
        mv "$work" "$layer"
    fi
}

build_in_chroot() {
    [ "$(id -u)" = 0 ] || fail "building in a chroot needs root; as another user, build where «docker info» works"
    [ -e "$BASE/etc/debian_version" ] || sh scripts/base_image.sh trixie "$BASE"
    installed_layer
    if [ "$(cat "$LAYER" 2>/dev/null)" != "$layer" ] || [ ! -d "$BUILD/rootfs/opt" ]; then
        say "copying the installed packages"
        rm -rf "$BUILD/rootfs" "$LAYER"
        mkdir -p "$BUILD"
        cp --archive "$layer" "$BUILD/rootfs"
        echo "$layer" >"$LAYER"
    fi
    say "copying the code"
    rm -rf "$BUILD/rootfs/opt/hawse"
    mkdir -p "$BUILD/rootfs/opt/hawse"
    sed -n 's|^COPY \([a-z]*\)/ /opt/hawse/.*|\1|p' plugin/Dockerfile |
        xargs tar --create --exclude=__pycache__ | tar --extract --no-same-owner --directory "$BUILD/rootfs/opt/hawse"
    chroot_step "$BUILD/rootfs" application
}

# Two builds at once would take the folder from under one another. A build that this one starts has the lock already.
if [ -z "${HAWSE_BUILD_LOCKED:-}" ]; then
    mkdir -p build
    exec 9>build/plugin.lock
    flock 9
    export HAWSE_BUILD_LOCKED=1
fi

case "${1:-}" in
--docker)
    compile_programs
    fetch_wheels
    build_with_docker
    ;;
--chroot)
    compile_programs
    fetch_wheels
    build_in_chroot
    ;;
'')
    # Each try is a process of its own: within a condition, a shell would not end at the first error.
    if engine_runs; then
        sh scripts/build_plugin.sh --docker && exit
        say "docker build does not work here: doing the same steps in a chroot"
    fi
    exec sh scripts/build_plugin.sh --chroot
    ;;
*) fail "unknown option $1: --docker, --chroot or nothing" ;;
esac
# Device nodes of the base: the engine mounts a /dev of its own, and whoever copies the tree must not read from them.
find "$BUILD/rootfs/dev" -mindepth 1 -delete
cp plugin/config.json "$BUILD/config.json"
size=$(du -s --block-size=M "$BUILD/rootfs" | cut -f1)
say "$BUILD: rootfs $size"

#!/bin/sh
# «make demo»: two containers on a hawse network, from nothing, on a Debian 12 machine as root. What it installs stays;
# what it starts and makes is written down in $STATE, and «make demo-down» takes it away. It can be run again.
set -eu
cd "$(dirname "$0")/.."

PLUGIN=hawse:latest
NETWORK=hawse-demo
SUBNET=${HAWSE_DEMO_SUBNET:-10.209.0.0/24}
IMAGE=hawse-demo:latest
STATE=/var/lib/hawse-demo

started=$(date +%s)
step() { printf '\n\033[1m[%3d s] %s\033[0m\n' $(($(date +%s) - started)) "$*"; }
# Show a command as a user would type it, then run it.
run() {
    echo "\$ $*"
    "$@"
}
fail() {
    echo "demo: $*" >&2
    exit 1
}

# When something fails, what the agent said last is what one wants to see.
explain() {
    status=$?
    if [ "$status" -ne 0 ] && [ -s "$STATE/dockerd.log" ]; then
        printf '\nThe last lines of %s:\n' "$STATE/dockerd.log" >&2
        tail -n 15 "$STATE/dockerd.log" >&2
    elif [ "$status" -ne 0 ] && [ -d /run/systemd/system ]; then
        printf '\nThe last lines of the engine (journalctl -u docker):\n' >&2
        journalctl --unit docker --lines 15 --no-pager >&2
    fi
}
trap explain EXIT

# The engine: the one that runs; else the system's service; else, on a machine without a service manager, a process, which
# is told to leave the host's own network alone: hawse needs neither its bridge nor its packet filter rules.
start_engine() {
    if docker info >/dev/null 2>&1; then
        return
    fi
    if [ -d /run/systemd/system ]; then
        echo systemd >"$STATE/engine"
        systemctl start docker
    else
        echo process >"$STATE/engine"
        setsid dockerd --pidfile "$STATE/dockerd.pid" --bridge=none --iptables=false --ip-forward=false \
            >"$STATE/dockerd.log" 2>&1 </dev/null &
    fi
    for _ in $(seq 60); do
        if docker info >/dev/null 2>&1; then
            return
        fi
        sleep 0.5
    done
    fail "the engine does not answer after 30 s"
}

# hawse keeps its programs in a BPF file system. systemd mounts it at boot; other machines may have none.
mount_bpffs() {
    if [ "$(stat --file-system --format %T /sys/fs/bpf)" != bpf_fs ]; then
        : >"$STATE/bpffs"
        mount -t bpf bpf /sys/fs/bpf
    fi
}

install_plugin() {
    if docker plugin inspect "$PLUGIN" >/dev/null 2>&1; then
        echo "$PLUGIN is installed already; «make demo-down» first, to have the one of this checkout"
    else
        sh scripts/build_plugin.sh
        sh scripts/build_cli.sh
        : >"$STATE/plugin"
        run docker plugin create "$PLUGIN" build/plugin
    fi
    [ -x build/hawse ] || sh scripts/build_cli.sh
    if [ "$(docker plugin inspect --format '{{.Enabled}}' "$PLUGIN")" = false ]; then
        run docker plugin enable "$PLUGIN"
    fi
}

# A web server and its client in one image: busybox, pulled, or Debian's where nothing can be pulled.
make_image() {
    if docker image inspect "$IMAGE" >/dev/null 2>&1; then
        return
    fi
    if docker image inspect busybox >/dev/null 2>&1 || timeout 20 docker pull --quiet busybox >/dev/null 2>&1; then
        docker tag busybox "$IMAGE"
        return
    fi
    echo "busybox cannot be pulled: making the image from Debian's busybox-static"
    if ! dpkg-query --show --showformat '${db:Status-Status}\n' busybox-static 2>/dev/null | grep -qx installed; then
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends busybox-static \
            >/dev/null
    fi
    tree=$(mktemp -d)
    mkdir -p "$tree/bin" "$tree/etc" "$tree/tmp"
    for applet in $(busybox --list); do
        ln -s busybox "$tree/bin/$applet"
    done
    cp --remove-destination /bin/busybox "$tree/bin/busybox"
    tar --create --directory "$tree" . | docker import --change 'ENV PATH=/bin' - "$IMAGE" >/dev/null
    rm -rf "$tree"
}

remove_containers() {
    docker rm --force hawse-demo-web hawse-demo-client >/dev/null 2>&1 || true
    docker network rm "$NETWORK" >/dev/null 2>&1 || true
}

run_containers() {
    attachable=
    [ "$(docker info --format '{{.Swarm.LocalNodeState}}')" != active ] || attachable=--attachable
    # shellcheck disable=SC2086 # an option or none
    run docker network create --driver "$PLUGIN" --ipam-driver "$PLUGIN" --subnet "$SUBNET" $attachable "$NETWORK"
    run docker run --detach --name hawse-demo-web --network "$NETWORK" "$IMAGE" \
        sh -c 'mkdir -p /www && echo "Hello from $(hostname), through hawse" >/www/index.html && exec httpd -f -p 80 -h /www'
    run docker run --detach --name hawse-demo-client --network "$NETWORK" "$IMAGE" sleep 1000000
}

# The server listens a moment after its container has started. (Not «wget -T»: it crashes in Debian 12's busybox.)
request() {
    for _ in $(seq 50); do
        if docker exec hawse-demo-client timeout 2 wget -q -O /dev/null http://hawse-demo-web/ 2>/dev/null; then
            break
        fi
        sleep 0.1
    done
    run docker exec hawse-demo-client timeout 5 wget -q -O - http://hawse-demo-web/
    run docker exec hawse-demo-client ping -c 3 hawse-demo-web
}

[ "$(id -u)" = 0 ] || fail "run it as root: it installs packages and starts containers"
mkdir -p "$STATE"

step "What is missing on this machine"
sh scripts/install_requirements.sh --engine
step "The engine"
start_engine
docker version --format 'Docker {{.Server.Version}}'
step "The plugin"
mount_bpffs
install_plugin
step "A network, a web server and a client"
remove_containers
make_image
run_containers
step "A request from the client to the server, by name"
request
step "What hawse knows about it"
run build/hawse endpoint ls
step "Done"
cat <<END
Try next:
  build/hawse status                       the agent, etcd, the datapath on this kernel, the nodes
  build/hawse ipam ls                      who holds which address
  docker run --rm -it --network $NETWORK $IMAGE sh
  docker plugin disable -f $PLUGIN         while a ping runs: no packet is lost; then enable it again
  docs/operations.md                       several hosts, etcd, upgrades
  make demo-down                           leaves nothing behind
END

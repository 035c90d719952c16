#!/bin/sh
# «make demo»: three containers on a hawse network and a policy between them, from nothing, on a Debian 12 machine as root.
# What it installs stays; what it starts and makes is written down in $STATE, and «make demo-down» takes it away. It can
# be run again.
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
    # Its programs are compiled for this kernel, once.
    for _ in $(seq 600); do
        ! build/hawse status >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    build/hawse status || true
    fail "hawse is not ready after a minute"
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
    docker rm --force hawse-demo-proxy hawse-demo-app hawse-demo-db >/dev/null 2>&1 || true
    docker network rm "$NETWORK" >/dev/null 2>&1 || true
}

# The tiers of examples/shop/stack.yml as single containers, so that the demo needs no Swarm.
run_containers() {
    attachable=
    [ "$(docker info --format '{{.Swarm.LocalNodeState}}')" != active ] || attachable=--attachable
    # shellcheck disable=SC2086 # an option or none
    run docker network create --driver "$PLUGIN" --ipam-driver "$PLUGIN" --subnet "$SUBNET" $attachable "$NETWORK"
    run docker run --detach --name hawse-demo-db --label app=db --network "$NETWORK" "$IMAGE" \
        sh -c 'mkdir -p /www && echo the database answers >/www/index.html && exec httpd -f -p 5432 -h /www'
    run docker run --detach --name hawse-demo-app --label app=app --network "$NETWORK" "$IMAGE" \
        sh -c 'mkdir -p /www && echo the app answers >/www/index.html && exec httpd -f -p 8080 -h /www'
    run docker run --detach --name hawse-demo-proxy --label app=proxy --network "$NETWORK" "$IMAGE" sleep 1000000
}

# Not «wget -T»: it crashes in Debian 12's busybox.
get() {
    docker exec "hawse-demo-$1" timeout 2 wget -q -O - "http://hawse-demo-$2/"
}

# A server listens a moment after its container has started.
await() {
    for _ in $(seq 50); do
        ! get "$1" "$2" >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    fail "hawse-demo-$2 does not answer hawse-demo-$1"
}

apply_policy() {
    run build/hawse policy apply -f examples/shop/policy.yml
    run build/hawse policy wait
}

requests() {
    run docker exec hawse-demo-proxy timeout 2 wget -q -O - http://hawse-demo-app:8080/
    run docker exec hawse-demo-app timeout 2 wget -q -O - http://hawse-demo-db:5432/
    echo '$ docker exec hawse-demo-proxy timeout 2 wget -q -O - http://hawse-demo-db:5432/'
    ! get proxy db:5432 2>/dev/null || fail "the policy let the proxy through to the database"
    echo '(no answer: the policy has no rule for that)'
}

explanation() {
    for _ in $(seq 20); do
        [ -z "$(build/hawse observe --last 1 --verdict DROPPED --from-label app=proxy --to-label app=db)" ] || break
        sleep 0.1
    done
    run build/hawse observe --last 1 --verdict DROPPED --from-label app=proxy --to-label app=db
    echo '$ build/hawse policy trace --from app=proxy --to app=db --dport 5432/tcp'
    # It answers by its exit code, too: 1 is «denied».
    build/hawse policy trace --from app=proxy --to app=db --dport 5432/tcp || [ $? -eq 1 ]
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
step "A network and three tiers: proxy, app, database"
build/hawse policy delete -f examples/shop/policy.yml >/dev/null 2>&1 || true
remove_containers
make_image
run_containers
step "Without a policy everybody reaches everybody"
await proxy app:8080
await app db:5432
run docker exec hawse-demo-proxy timeout 2 wget -q -O - http://hawse-demo-db:5432/
step "A policy by labels: proxy to app, app to database, nothing else"
apply_policy
requests
step "Why, in one line, and step by step"
explanation
step "What hawse knows about it"
run build/hawse endpoint ls
step "Done"
cat <<END
Try next:
  build/hawse observe -f                   every new connection and every drop, with names and reasons
  build/hawse status                       the agent, etcd, the datapath on this kernel, the nodes
  build/hawse policy get shop-db           change examples/shop/policy.yml, apply it again, and watch
  docker run --rm -it --network $NETWORK $IMAGE sh
  docker plugin disable -f $PLUGIN         while a ping runs: no packet is lost; then enable it again
  docs/policy.md                           all that a policy can say
  docs/operations.md                       several hosts, etcd, upgrades
  make demo-down                           leaves nothing behind
END

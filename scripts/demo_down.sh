#!/bin/sh
# «make demo-down»: take away what «make demo» made: containers, network, plugin, links, pinned programs, and the engine if
# the demo started it. Says what is left, and can be run again.
set -eu

PLUGIN=hawse:latest
NETWORK=hawse-demo
IMAGE=hawse-demo:latest
STATE=/var/lib/hawse-demo

fail() {
    echo "demo-down: $*" >&2
    exit 1
}

remove_from_engine() {
    docker rm --force hawse-demo-proxy hawse-demo-app hawse-demo-db >/dev/null 2>&1 || true
    if docker network inspect "$NETWORK" >/dev/null 2>&1; then
        # Containers that were tried out on the demo's network.
        docker ps --all --quiet --filter "network=$NETWORK" | xargs --no-run-if-empty docker rm --force >/dev/null
        docker network rm "$NETWORK" >/dev/null
        echo "network $NETWORK removed"
    fi
    docker image rm "$IMAGE" >/dev/null 2>&1 || true
    if [ ! -e "$STATE/plugin" ]; then
        return
    fi
    others=$(docker network ls --filter "driver=$PLUGIN" --format '{{.Name}}' | tr '\n' ' ')
    [ -z "$others" ] || fail "$PLUGIN stays, these networks use it: $others- remove them, then run «make demo-down» again"
    docker plugin rm --force "$PLUGIN" >/dev/null 2>&1 || true
    ! docker plugin inspect "$PLUGIN" >/dev/null 2>&1 || fail "the engine does not remove $PLUGIN: docker plugin rm -f $PLUGIN"
    echo "plugin $PLUGIN removed"
}

# What outlives the agent on purpose, so that traffic goes on without it. Filters go with their links.
remove_from_kernel() {
    for link in /sys/class/net/*; do
        case $(cat "$link/ifalias") in
        hawse:*) ip link delete "$(basename "$link")" ;;
        esac
    done
    for link in hawse0 hawse_peer; do
        ! ip link show "$link" >/dev/null 2>&1 || ip link delete "$link"
    done
    rm -rf /sys/fs/bpf/hawse /run/hawse
    if [ -e "$STATE/bpffs" ] && mountpoint --quiet /sys/fs/bpf; then
        umount /sys/fs/bpf
    fi
    echo "links and pinned programs removed"
}

stop_engine() {
    case $(cat "$STATE/engine" 2>/dev/null) in
    systemd) systemctl stop docker docker.socket ;;
    process)
        pid=$(cat "$STATE/dockerd.pid" 2>/dev/null || true)
        if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]; then
            kill "$pid"
            for _ in $(seq 100); do
                [ -d "/proc/$pid" ] || break
                sleep 0.2
            done
            [ ! -d "/proc/$pid" ] || fail "dockerd (process $pid) has not ended after 20 s"
        fi
        ;;
    *) return ;;
    esac
    echo "the engine, which the demo had started, is stopped"
}

[ "$(id -u)" = 0 ] || fail "run it as root"
if [ ! -d "$STATE" ]; then
    echo "no demo is up"
    exit 0
fi
if docker info >/dev/null 2>&1; then
    remove_from_engine
elif [ -e "$STATE/plugin" ]; then
    fail "no engine answers, and the plugin is in it: start the engine, then run «make demo-down» again"
fi
if [ -e "$STATE/plugin" ]; then
    remove_from_kernel
fi
stop_engine
rm -rf "$STATE"

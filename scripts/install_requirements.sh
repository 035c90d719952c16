#!/bin/sh
# Install with apt what is missing on this machine (Debian 12, root). Says what it installs; silent and at once when
# nothing is missing.
#
#   install_requirements.sh            what building the plugin and the command needs
#   install_requirements.sh --engine   and a Docker engine
#   install_requirements.sh --test     and everything that the checks and the tests need, engine included
set -eu

BUILD='ca-certificates debootstrap iproute2 linux-libc-dev make python3 python3-bpfcc python3-venv'
ENGINE='docker.io iptables'
TEST='bpftool busybox-static clang clang-format curl etcd-client etcd-server git iperf3 iputils-ping kmod libc6-dev
    nftables openssl procps sockperf tcpdump util-linux vagrant'

case ${1-} in
    '') wanted=$BUILD ;;
    --engine) wanted="$BUILD $ENGINE" ;;
    --test) wanted="$BUILD $ENGINE $TEST" ;;
    *)
        sed -n 's/^# \{0,1\}//; 2,7p' "$0" >&2
        exit 2
        ;;
esac

present=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')
missing=
for package in $wanted; do
    printf '%s\n' "$present" | grep -qxF "$package" || missing="$missing $package"
done
if [ -z "$missing" ]; then
    exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
    echo "install_requirements.sh: run it as root, it has to install:$missing" >&2
    exit 1
fi

install() {
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends $missing >"$log" 2>&1
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "==> installing:$missing"
# The package lists of a machine that was just made are missing or older than its mirror.
if ! install && ! { apt-get update --quiet --quiet >>"$log" 2>&1 && install; }; then
    echo "install_requirements.sh: apt-get failed; its last words:" >&2
    tail -n 20 "$log" >&2
    exit 1
fi

# Tests start etcd themselves, and the plugin's own etcd uses the same port as the service that Debian starts.
case $missing in
    *etcd-server*)
        if [ -d /run/systemd/system ]; then
            systemctl disable --quiet --now etcd.service
        fi
        ;;
esac

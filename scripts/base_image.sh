#!/bin/sh
# A Debian root file system in DIR, made with debootstrap: for the plugin's image where none can be pulled, and for the
# tests' engines of other releases. Done at once when DIR is there already; removing DIR makes it anew.
#
#   base_image.sh SUITE DIR [PACKAGE...]
#
# Downloaded packages stay in $HAWSE_CACHE/debs (default /var/cache/hawse/debs). The mirror is $DEBIAN_MIRROR, default
# debootstrap's own.
set -eu

if [ $# -lt 2 ]; then
    sed -n 's/^# \{0,1\}//; 2,8p' "$0" >&2
    exit 2
fi
suite=$1
dir=$2
shift 2
cache=${HAWSE_CACHE:-/var/cache/hawse}
mirror=${DEBIAN_MIRROR:-}

installed() {
    for package in "$@"; do
        [ -e "$dir/var/lib/dpkg/info/$package.list" ] || return 1
    done
}

# In mount and process namespaces of its own: what a package's script mounts or starts goes when they end.
in_dir() {
    unshare --mount --pid --fork sh -euc 'mount -t proc proc "$1/proc"; exec chroot "$@"' sh "$dir" "$@"
}

if [ ! -e "$dir/etc/debian_version" ]; then
    if ! command -v debootstrap >/dev/null; then
        echo "base_image.sh: debootstrap is not installed; scripts/install_requirements.sh does that" >&2
        exit 1
    fi
    echo "==> Debian $suite in $dir (about half a minute)"
    mkdir -p "$cache/debs"
    rm -rf "$dir.part"
    log=$(mktemp)
    if ! debootstrap --variant=minbase --cache-dir="$cache/debs" "$suite" "$dir.part" ${mirror:+"$mirror"} >"$log" 2>&1; then
        echo "base_image.sh: debootstrap of $suite failed, in $dir.part; its last words:" >&2
        tail -n 20 "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
    # Nothing that is installed here is to run here.
    printf '#!/bin/sh\nexit 101\n' >"$dir.part/usr/sbin/policy-rc.d"
    chmod 755 "$dir.part/usr/sbin/policy-rc.d"
    mkdir -p "$(dirname "$dir")"
    mv "$dir.part" "$dir"
fi

if ! installed "$@"; then
    echo "==> $* in $dir"
    # Unstable is for the tests' engines only: a mirror that lags behind serves its lists past their date. They are signed
    # all the same.
    check_date=true
    if [ "$suite" = sid ]; then check_date=false; fi
    in_dir apt-get update --quiet --quiet --option "Acquire::Check-Valid-Until=$check_date"
    in_dir env DEBIAN_FRONTEND=noninteractive \
        apt-get install --option Dpkg::Use-Pty=0 --yes --quiet --quiet --no-install-recommends "$@" >/dev/null
    in_dir apt-get clean
fi

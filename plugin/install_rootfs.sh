#!/bin/sh
# The steps that make the plugin's root file system, in one place: plugin/Dockerfile runs them in an image build, and
# scripts/build_plugin.sh runs them in a chroot where no engine is at hand.
#
#   install_rootfs.sh runtime                  Debian packages; afterwards only what the agent needs is left
#   install_rootfs.sh wheels LOCK WHEELS DIR   the locked Python packages into DIR, from the directory WHEELS if it has any
#   install_rootfs.sh application              no package manager any more, byte code for a fast start, and a check that
#                                              everything can be imported
set -eu

APPLICATION=/opt/hawse

install_packages() {
    apt-get update --quiet --quiet
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends "$@" >/dev/null
}

forget_packages() {
    apt-get clean
    rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log /var/log/alternatives.log
}

runtime() {
    # libbpf loads the BPF programs, which are compiled when the plugin is built.
    install_packages python3 libbpf1 etcd-server
    forget_packages

    rm -rf /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/share/bash-completion
    rm -rf /usr/share/i18n /usr/share/pixmaps /usr/share/applications /usr/share/zoneinfo
    # Character set converters: everything here is UTF-8.
    rm -rf /usr/lib/*-linux-gnu/gconv
    # Parts of the standard library that need a display, or install packages.
    rm -rf /usr/lib/python3.*/idlelib /usr/lib/python3.*/tkinter /usr/lib/python3.*/turtledemo /usr/lib/python3.*/ensurepip \
        /usr/lib/python3.*/test /usr/lib/python3.*/pydoc_data
    # systemd's units and catalogues come with libraries; nothing here starts a service manager.
    rm -rf /usr/lib/systemd /etc/systemd /var/lib/etcd /var/lib/systemd /usr/bin/etcdutl
}

wheels() {
    lock=$1 wheels=$2 target=$3
    # pip runs from its wheel: no copy of it, nor of what it recommends, gets into the result.
    install_packages python3-pip-whl ca-certificates
    set --
    if ls "$wheels"/*.whl >/dev/null 2>&1; then
        set -- --no-index --find-links "$wheels"
        # Settings of the host's pip name directories of the host.
        unset PIP_FIND_LINKS
    fi
    PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) python3 -m pip install --quiet --no-cache-dir \
        --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes --only-binary=:all: --no-compile \
        "$@" --target "$target" --requirement "$lock"
    rm -rf "$target/bin"
}

application() {
    # The package manager and what only its scripts need; the list of what is installed stays.
    rm -rf /usr/bin/apt* /usr/bin/dpkg* /usr/bin/sqv /usr/lib/apt /usr/lib/dpkg /usr/lib/*-linux-gnu/libapt-p* /etc/apt \
        /var/lib/dpkg/info /var/lib/apt /var/cache/apt /usr/bin/perl* /usr/lib/*-linux-gnu/perl* /usr/share/perl* \
        /usr/share/debconf /var/cache/debconf /usr/share/dpkg /usr/share/python-wheels
    for packages in /usr/local/lib/python3.*/dist-packages; do
        echo "$APPLICATION" >"$packages/hawse.pth"
        # Not checked against the source's time stamp at import: nothing changes in an image.
        python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages" "$APPLICATION"
    done
    # The mount points of config.json.
    mkdir -p /data /host/run /host/etc/opt /host/sys/fs/cgroup /run/docker/plugins
    PYTHONDONTWRITEBYTECODE=1 python3 -c 'import flask, google.protobuf, grpc, gunicorn, msgspec, pyetcd, pyroute2'
}

step=$1
shift
"$step" "$@"

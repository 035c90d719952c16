#!/bin/sh
# Prepare a machine of the Vagrantfile: the same script that «make test» and «make demo» use installs what is missing.
set -eu
cd "${HAWSE_CHECKOUT:-/hawse}"

sh scripts/install_requirements.sh --test
if [ -d /run/systemd/system ]; then
    systemctl enable --quiet --now docker.service
fi
echo "$(hostname) is ready: «cd $PWD; make test» as root, or «make demo»"

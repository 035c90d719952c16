#!/bin/sh
# Pin the dependencies that setup.cfg names: requirements/plugin.lock, and requirements/test.lock for what only tests need.
set -eu
cd "$(dirname "$0")/.."
. ./scripts/venv.sh

compile() {
    .venv/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@" setup.cfg
}

compile --output-file requirements/plugin.lock
all=$(mktemp)
trap 'rm -f "$all"' EXIT
compile --extra test --constraint requirements/plugin.lock --output-file "$all"
.venv/bin/python scripts/lock_difference.py "$all" requirements/plugin.lock > requirements/test.lock

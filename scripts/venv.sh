#!/bin/sh
# Make .venv, or bring it up to date, when the locked requirements have changed; at once when not. It sees the system's
# packages because bcc comes from the distribution.
set -eu
cd "$(dirname "$0")/.."

lock=requirements/test.lock
stamp=.venv/installed.lock
if ! cat requirements/*.lock | cmp -s - "$stamp"; then
    echo "==> Python packages of $lock into .venv"
    [ -x .venv/bin/pip ] || /usr/bin/python3 -m venv --system-site-packages .venv
    .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement "$lock"
    cat requirements/*.lock >"$stamp"
fi

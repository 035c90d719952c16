#!/bin/sh
# Build build/hawse: the command as one executable file that needs Python >= 3.11 and no installed package.
#
# click comes from the wheel that requirements/plugin.lock pins, by hash. The same sources and the same Python give the same
# bytes. PYTHON is the interpreter that will run the file: its compiled modules are packed, which halves the start time
# (another Python uses the sources, which are packed too).
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-/usr/bin/python3}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# click's pin and its hashes: from «click==» to the first line that does not end in a backslash.
awk '/^click==/ { found = 1 } found { print } found && !/\\$/ { exit }' requirements/plugin.lock > "$work/click.lock"
if ! [ -s "$work/click.lock" ]; then
    echo "build_cli: requirements/plugin.lock does not pin click; make it again with «make lock»" >&2
    exit 1
fi
# The test environment's pip if there is one, else the host's, else one of its own: the command needs no test tools.
pip=.venv/bin/pip
if ! [ -x $pip ]; then
    pip="/usr/bin/python3 -m pip"
    if ! $pip --version >/dev/null 2>&1; then
        /usr/bin/python3 -m venv "$work/venv"
        pip="$work/venv/bin/pip"
    fi
fi
$pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary :all: --require-hashes \
    --target "$work/site" -r "$work/click.lock"

"$PYTHON" scripts/pack_cli.py --vendored "$work/site" --output build/hawse

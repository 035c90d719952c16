#!/bin/sh
# Run all tests in two lanes, side by side: end-to-end tests spend most of their time waiting for engines.
#
#   1. end-to-end tests with three nodes, then unit and contract tests; their output is seen at once
#   2. the other end-to-end tests, then kernel tests; their output follows when all is done
#
# Each lane is a run of its own and leaves the other's machines alone. Ends with 1 when a test of either failed.
set -eu
cd "$(dirname "$0")/.."

OTHERS=build/test-others.log
mkdir -p build
# The shell has what it starts in the background ignore interrupts, and some tests send one.
lane() {
    env --default-signal=INT .venv/bin/pytest --durations=25 "$@"
}

three='' others=''
for file in tests/e2e/test_*.py; do
    case $file in
    *_3_nodes.py) three="$three $file" ;;
    *) others="$others $file" ;;
    esac
done

# shellcheck disable=SC2086 # lists of words
lane $others tests/kernel >"$OTHERS" 2>&1 &
other=$!
# Both end with this script, also when it is interrupted.
trap 'kill "$other" 2>/dev/null || true' EXIT

result=0
# shellcheck disable=SC2086
lane $three tests/unit tests/contract || result=1
wait "$other" || result=1
cat "$OTHERS"
exit "$result"

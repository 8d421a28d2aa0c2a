#!/usr/bin/env bash
# Builds, then runs the whole suite, a process for each core. With arguments, which go to pytest, it runs what they say.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
./build.sh --test
(($#)) || set -- --numprocesses auto --maxprocesses 4 --dist worksteal
exec .venv/bin/pytest "$@"

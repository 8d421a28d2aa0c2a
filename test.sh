#!/usr/bin/env bash
# Builds .venv, then runs all tests, one process a core. Given arguments, runs pytest with them instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
./build.sh --test
(($#)) || set -- --numprocesses auto --maxprocesses 4 --dist worksteal
exec .venv/bin/pytest "$@"

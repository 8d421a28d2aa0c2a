#!/usr/bin/env bash
# Builds, then runs the whole suite. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
./build.sh --test
exec .venv/bin/pytest "$@"

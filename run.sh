#!/usr/bin/env bash
# Builds .venv if necessary, then serves on localhost:4000. Takes the options of `twistd kvstore`; see --help.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/build.sh" >&2

# exec, so that signals reach the server. No cd, so that a relative --working-dir is relative to the caller.
exec "$here/.venv/bin/kvtwist" serve "$@"

#!/usr/bin/env bash
# Builds on first use, then serves on localhost:4000. Options are those of `twistd kvstore`; --help lists them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/build.sh" >&2

profile=${KVTWIST_PROFILE:-}
for argument; do
  case $argument in --profile | --profile=* | -P*) profile=given ;; esac
done
# Bare, it serves the two specs that call this script; where both know a path the first one wins.
[[ -n $profile ]] || set -- --profile lsfr --profile transactional "$@"

# exec: signals are for the server. No cd: a relative --working-dir means the caller's.
exec "$here/.venv/bin/twistd" -n --pidfile= kvstore "$@"

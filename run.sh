#!/usr/bin/env bash
# Builds .venv if necessary, then serves on localhost:4000. Takes the options of `twistd kvstore`; see --help.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/build.sh" >&2

profile=${KVTWIST_PROFILE:-}
for argument; do
  case $argument in --profile | --profile=* | -P*) profile=given ;; esac
done
# Without --profile, serve the two specs that call this script, and our own API. If several have a route for a path, the
# first wins.
[[ -n $profile ]] || set -- --profile lsfr --profile transactional --profile native "$@"

# exec, so that signals reach the server. No cd, so that a relative --working-dir is relative to the caller.
exec "$here/.venv/bin/twistd" -n --pidfile= kvstore "$@"

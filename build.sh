#!/usr/bin/env bash
# Makes .venv with the packages that run.sh needs; does nothing if it is up to date.
#   --test      also the packages that test.sh needs
#   --dev       also the linter, the type checker and tox
#   --archive   instead, packs the project with its git history into dist/kvtwist-<version>.tar.gz
# PYTHON names the interpreter for a new .venv; the default is the first one found that is new enough.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

die() {
  echo "build.sh: $*" >&2
  exit 1
}

find_python() {
  local python candidates=(python3 python3.14 python3.13 python3.12 python3.11 python3.10)
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  for python in "${candidates[@]}"; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue
    echo "$python"
    return
  done
  die "needs Python 3.10 or newer; tried: ${candidates[*]}"
}

# Debian ships venv in a separate package.
ensure_venv() {
  local package
  "$1" -c 'import ensurepip, venv' 2>/dev/null && return
  package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  if [[ $EUID != 0 ]] || ! command -v apt-get >/dev/null; then
    die "$1 has no venv; run: sudo apt-get install $package"
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" </dev/null >/dev/null
}

install() {
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"
}

# The stamp in a .venv has a line for each target installed from these versions of the files, at this path.
stamp=.venv/.built
key=$({ pwd -P && cat setup.py constraints.txt; } | cksum)
is_built() { [[ -x .venv/bin/python ]] && grep -qsxF "$key $1" "$stamp"; }

build() {
  local target=$1 python built=""
  is_built "$target" && return
  if command -v flock >/dev/null; then # of two concurrent builds, the second waits and then has nothing to do
    exec 9<setup.py
    flock 9
    is_built "$target" && return
  fi

  if is_built .; then
    built=$(<"$stamp")
    rm "$stamp" # missing while pip works: a build that finds a .venv without a stamp starts over
  else
    python=$(find_python)
    ensure_venv "$python"
    echo "build.sh: making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
    install setuptools
  fi
  install --no-build-isolation --editable "$target"
  .venv/bin/twistd kvstore --help >/dev/null # checks that the plugin loads, and makes Twisted's plugin cache
  printf '%s\n' ${built:+"$built"} "$key $target" >"$stamp"
}

archive() {
  local name
  [[ -e .git ]] || die "--archive needs a git repository"
  [[ -z $(git status --porcelain) ]] || echo "build.sh: the archive will not have the uncommitted changes" >&2
  stage=$(mktemp -d)
  trap 'rm -rf "$stage"' EXIT

  git clone --quiet --no-local --template= --origin origin . "$stage/clone"
  name=kvtwist-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$stage/clone/kvtwist/__init__.py")
  mv "$stage/clone" "$stage/$name"
  git -C "$stage/$name" remote remove origin
  rm -r "$stage/$name/.git/logs" # names the path of the original repository

  mkdir -p dist
  tar --create --gzip --file "$stage/archive" --owner 0 --group 0 --directory "$stage" "$name"
  mv "$stage/archive" "dist/$name.tar.gz"
  echo "dist/$name.tar.gz"
}

case $# in 0) set -- "" ;; 1) ;; *) die "takes at most one option" ;; esac
case $1 in
  "") build . ;;
  --test | --dev)
    build .
    build ".[${1#--}]"
    ;;
  --archive) archive ;;
  *) die "unknown option $1; use --test, --dev or --archive" ;;
esac

#!/usr/bin/env bash
# Makes .venv with everything run.sh needs; does nothing when it is there already.
#   --test      also what test.sh needs
#   --dev       also the linters, the type checker and tox
#   --archive   instead, puts the whole project with its git history into dist/kvtwist-<version>.tar.gz
# PYTHON names the interpreter of a new .venv; otherwise it is the first one found that is new enough.
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
  die "needs Python 3.10 or newer, found none as: ${candidates[*]}"
}

# Debian has venv in a package of its own.
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

# The stamp in a .venv has a line for each target that was installed from these very files in this very place.
stamp=.venv/.built
key=$({ pwd -P && cat setup.py constraints.txt; } | cksum)
is_built() { [[ -x .venv/bin/python ]] && grep -qsxF "$key $1" "$stamp"; }

build() {
  local target=$1 python built=""
  is_built "$target" && return
  if command -v flock >/dev/null; then # of two builds at once, one waits and then finds its work done
    exec 9<setup.py
    flock 9
    is_built "$target" && return
  fi

  if is_built .; then
    built=$(<"$stamp")
    rm "$stamp" # while pip works there is none: whoever finds a .venv without a stamp starts over
  else
    python=$(find_python)
    ensure_venv "$python"
    echo "build.sh: making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
    install setuptools
  fi
  install --no-build-isolation --editable "$target"
  .venv/bin/twistd kvstore --help >/dev/null # proves that the plugin works, and makes Twisted's plugin cache
  printf '%s\n' ${built:+"$built"} "$key $target" >"$stamp"
}

archive() {
  local name
  [[ -e .git ]] || die "--archive packs the git repository, and there is none here"
  [[ -z $(git status --porcelain) ]] || echo "build.sh: what is not committed will not be in the archive" >&2
  stage=$(mktemp -d)
  trap 'rm -rf "$stage"' EXIT

  git clone --quiet --no-local --template= --origin origin . "$stage/clone"
  name=kvtwist-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$stage/clone/kvtwist/__init__.py")
  mv "$stage/clone" "$stage/$name"
  git -C "$stage/$name" remote remove origin
  rm -r "$stage/$name/.git/logs" # says where the clone was made from

  mkdir -p dist
  tar --create --gzip --file "$stage/archive" --owner 0 --group 0 --directory "$stage" "$name"
  mv "$stage/archive" "dist/$name.tar.gz"
  echo "dist/$name.tar.gz"
}

case $# in 0) set -- "" ;; 1) ;; *) die "takes one option at most" ;; esac
case $1 in
  "") build . ;;
  --test | --dev)
    build .
    build ".[${1#--}]"
    ;;
  --archive) archive ;;
  *) die "unknown option $1; there are --test, --dev and --archive" ;;
esac

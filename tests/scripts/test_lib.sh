#!/usr/bin/env bash
# scripts/lib.sh, quickstart and check with stand-ins for the system's commands. No network, no root.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
export HOME=$work/home XDG_CACHE_HOME=$work/cache PATH=$work/bin:$PATH
unset ASTER_LLAMA_DIR

stand_in() { printf '#!/bin/sh\n%s\n' "$2" > "$work/bin/$1"; chmod +x "$work/bin/$1"; }
lib() { (set -euo pipefail; . "$ROOT/scripts/lib.sh"; eval "$1"); }

n_failed=0
# expect <sentence> <exit code> <text in the output> <command...>
expect() {
  local sentence=$1 code=$2 text=$3 got=0
  shift 3
  "$@" > "$work/out" 2>&1 || got=$?
  if [ "$got" -ne "$code" ] || ! grep -qF -- "$text" <(cat "$work/out"; echo); then
    printf 'FAILED: %s\n  exit code %s, expected %s; expected "%s" in:\n' "$sentence" "$got" "$code" "$text"
    sed 's/^/  | /' "$work/out"
    n_failed=$((n_failed + 1))
  fi
}

expect "help says where the cache is" 0 "XDG_CACHE_HOME" "$ROOT/quickstart" --help
expect "an unknown argument is a usage error" 2 "unknown argument 'now'" "$ROOT/quickstart" now
expect "check takes no arguments" 2 "Usage" "$ROOT/check" all

stand_in dpkg-query 'case "$*" in *absent*) echo not-installed; exit 1;; *) echo installed;; esac'
stand_in apt-get 'exit 100'
expect "what is installed is not installed again" 0 "" lib 'install_packages one two; [ -z "$(missing_packages one two)" ]'
stand_in apt-get 'echo "apt-get $*"'
stand_in id 'echo 0'
expect "what is missing is named before it is installed" 0 "installing Debian packages: absent" lib 'install_packages one absent'
stand_in apt-get 'case "$*" in *install*) exit 100;; esac'
expect "a failed installation is one line" 1 "aster: apt-get could not install: absent" lib 'install_packages absent'
stand_in apt-get 'exit 100'
expect "no network for apt-get is one line" 1 "is there a network?" lib 'install_packages absent'
stand_in id 'echo 1000'
stand_in sudo 'echo sudo was asked; exit 1'
expect "without root, sudo is asked" 1 "sudo may ask for your password" lib 'install_packages absent'
expect "without root and sudo, it says what to run as root" 1 "run 'apt-get install absent' as root" \
  lib 'command() { [ "$2" != sudo ]; }; install_packages absent'

expect "a llama.cpp that is none is named" 1 "ASTER_LLAMA_DIR='/nowhere': expected a checkout" \
  env ASTER_LLAMA_DIR=/nowhere bash -c "set -euo pipefail; ROOT='$ROOT'; . '$ROOT/scripts/lib.sh'; find_llama"
mkdir -p "$work/llama/include"
touch "$work/llama/include/llama.h"
expect "a llama.cpp of one's own is taken" 0 "$work/llama" \
  env ASTER_LLAMA_DIR="$work/llama" bash -c "set -euo pipefail; ROOT='$ROOT'; . '$ROOT/scripts/lib.sh'; find_llama; echo \$LLAMA_DIR"
mkdir -p "$work/cache/aster/llama.cpp-$(. "$ROOT/scripts/pins.sh"; echo "$LLAMA_VERSION")"
expect "a cached source needs no pip" 0 "llama.cpp-" \
  env ASTER_PIP=/nonexistent bash -c "set -euo pipefail; ROOT='$ROOT'; . '$ROOT/scripts/lib.sh'; find_llama; echo \$LLAMA_DIR"

expect "too little disk space is told with both numbers" 1 "MB free, 999999999 MB needed" \
  lib "require_space '$work/build' 999999999 'the build'"

stand_in cmake 'exit 0'
mkdir "$work/other"
touch "$work/other/CMakeCache.txt" "$work/other/stale.o"
echo another-machine > "$work/other/.identity"
expect "a build folder of another CPU is started afresh" 0 "starting it afresh" \
  lib "LLAMA_DIR=x; configure release '$work/other'; [ ! -e '$work/other/stale.o' ]"
touch "$work/other/CMakeCache.txt" "$work/other/good.o"
expect "a build folder of this CPU is kept" 0 "" lib "LLAMA_DIR=x; configure release '$work/other'; [ -e '$work/other/good.o' ]"
expect "the same options are not configured twice, others are" 0 "" \
  lib "LLAMA_DIR=x; touch '$work/other/build.ninja'; configure release '$work/other'
       rm '$work/other/configure.log'; release_build
       configure release '$work/other'; [ ! -e '$work/other/configure.log' ] || exit 1
       release_build; configure release '$work/other' -DMORE=1; [ -e '$work/other/configure.log' ]"
stand_in mpicxx 'exit 0'
expect "MPI that was installed since is taken" 0 "" \
  lib "LLAMA_DIR=x; rm '$work/other/configure.log'; configure release '$work/other' -DMORE=1; [ -e '$work/other/configure.log' ]"
rm "$work/other/build.ninja"
stand_in cmake 'echo "CMake Error: no compiler"; exit 1'
expect "a folder that cannot be configured gets one fresh start" 1 "as it was: starting it afresh" \
  lib "LLAMA_DIR=x; touch '$work/other/CMakeCache.txt'; configure release '$work/other'"
expect "a failed configuration shows cmake's words" 1 "CMake Error: no compiler" lib "LLAMA_DIR=x; configure release '$work/other'"
expect "a failed build is one line" 1 "aster: the build in $work/other failed" lib "build '$work/other' all"
stand_in df 'echo Avail; echo 3M'
expect "a build that filled the disk says so" 1 "aster: the disk is full: $work/other" lib "build '$work/other' all"

[ $n_failed -eq 0 ] || { echo "$n_failed failed"; exit 1; }
echo "all passed"

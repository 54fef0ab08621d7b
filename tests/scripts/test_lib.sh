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
# lib <snippet>: a script that has sourced lib.sh. A process of its own: within a function that expect
# calls, no error would end it.
stand_in lib "exec '$BASH' -euo pipefail -c 'ROOT=\$1; . \"\$1/scripts/lib.sh\"; eval \"\$2\"' lib '$ROOT' \"\$1\""

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
expect "no network for apt-get is one line" 1 "could not install: absent (no network?" lib 'install_packages absent'
stand_in apt-get 'case "$*" in *update*) exit 100;; esac'
expect "one broken list of packages stops nothing" 0 "going on with the lists that are there" lib 'install_packages absent'
stand_in apt-get 'case "$*" in *absent-b*) exit 100;; *install*) echo took "$*" >&2;; esac'
expect "what can be left out is left out, and told" 0 "going on without absent-a absent-b" \
  lib 'install_where_possible one absent-a absent-b'
expect "and the rest is installed" 0 "took -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends absent-a" \
  lib 'install_where_possible absent-a absent-b'
rm "$work/bin/apt-get"
expect "where there is no apt-get, what is needed is told" 1 "expected Debian, or these installed: absent" \
  lib 'command() { [ "$2" != apt-get ] && builtin command "$@"; }; install_packages absent'

# A machine that is no Debian: nothing but these commands.
mkdir "$work/bare"
ln -s "$work/bin/lib" "$work/bare/"
for tool in bash dirname env sed sort head; do ln -s "$(command -v $tool)" "$work/bare/"; done
other() { env -u CC -u CXX PATH="$work/bare" lib "$1"; }
expect "no dpkg, no apt-get, no cmake: the packages are named" 1 \
  "aster: no apt-get here; expected Debian, or these installed: build-essential cmake ninja-build" \
  other 'install_packages "${BUILD_PACKAGES[@]}"; echo went on'
expect "no cmake is one line" 1 "aster: no cmake here; expected 3.25 or later" other require_cmake
for tool in cc c++ cmake ninja python3; do ln -s /bin/true "$work/bare/$tool"; done
expect "where the tools are there, CMake says what is missing" 0 "went on" \
  other 'install_packages "${BUILD_PACKAGES[@]}"; install_where_possible "${MORE_PACKAGES[@]}"; require_cmake; echo went on'

stand_in stat 'echo 1000'
expect "sudo in one's own clone is refused" 1 "run this without sudo" env SUDO_USER=somebody lib refuse_sudo
expect "root in a clone of somebody's is not" 0 "went on" env -u SUDO_USER lib 'refuse_sudo; echo went on'
rm "$work/bin/stat"
stand_in apt-get 'exit 100'
stand_in id 'echo 1000'
stand_in sudo 'echo sudo was asked; exit 1'
expect "without root, sudo is asked" 1 "sudo may ask for your password" lib 'install_packages absent'
expect "without root and sudo, it says what to run as root" 1 "run 'apt-get install absent' as root" \
  lib 'command() { [ "$2" != sudo ]; }; install_packages absent'

expect "a llama.cpp that is none is named" 1 "ASTER_LLAMA_DIR='/nowhere': expected a checkout" \
  env ASTER_LLAMA_DIR=/nowhere lib find_llama
mkdir -p "$work/llama/include"
touch "$work/llama/include/llama.h"
expect "a llama.cpp of one's own is taken" 0 "$work/llama" \
  env ASTER_LLAMA_DIR="$work/llama" lib 'find_llama; echo $LLAMA_DIR'
expect "from where the caller stands" 0 "$work/llama" env -C "$work" ASTER_LLAMA_DIR=llama lib 'find_llama; echo $LLAMA_DIR'
mkdir -p "$work/cache/aster/llama.cpp-$(. "$ROOT/scripts/pins.sh"; echo "$LLAMA_VERSION")"
expect "a cached source needs no pip" 0 "llama.cpp-" \
  env ASTER_PIP=/nonexistent lib 'find_llama; echo $LLAMA_DIR'

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
rm -f "$work/other/build.ninja"
stand_in cmake 'echo "cmake version 3.22.1"'
expect "an old cmake is told with both versions" 1 "is version 3.22.1; expected 3.25 or later" \
  lib "LLAMA_DIR=x; configure release '$work/other'"
stand_in g++ 'echo "g++ 12"'
expect "a compiler may be several words" 0 "same, and another" env CXX="$work/bin/g++ -m64" lib \
  "LLAMA_DIR=x; a=\$(build_identity); b=\$(build_identity)
   CXX='$work/bin/g++'; [ \$a = \$b ] && [ \$a != \$(build_identity) ] && echo same, and another"
mkdir "$work/cgroup"
stand_in nproc 'echo 8'
stand_in awk 'echo 64'
expect "a core each" 0 "jobs: 8." lib "echo jobs: \$(compile_jobs '$work/cgroup')."
echo 3500000000 > "$work/cgroup/memory.max"
expect "and a gigabyte of a container's memory each" 0 "jobs: 3." lib "echo jobs: \$(compile_jobs '$work/cgroup')."
echo 200000 100000 > "$work/cgroup/cpu.max"
expect "and no more than its CPUs" 0 "jobs: 2." lib "echo jobs: \$(compile_jobs '$work/cgroup')."
echo 50000 100000 > "$work/cgroup/cpu.max"
expect "but one" 0 "jobs: 1." lib "echo jobs: \$(compile_jobs '$work/cgroup')."
rm "$work/bin/nproc" "$work/bin/awk"
stand_in cmake 'echo "CMake Error: no compiler"; exit 1'
expect "a folder that cannot be configured gets one fresh start" 1 "as it was: starting it afresh" \
  lib "LLAMA_DIR=x; touch '$work/other/CMakeCache.txt'; configure release '$work/other'"
mkdir "$work/disk"
ln -s "$work/disk" "$work/link"
expect "so does one that is a link" 1 "as it was: starting it afresh" \
  lib "LLAMA_DIR=x; build_identity > '$work/disk/.identity'; touch '$work/disk/CMakeCache.txt'; configure release '$work/link'"
expect "a failed configuration shows cmake's words" 1 "CMake Error: no compiler" lib "LLAMA_DIR=x; configure release '$work/other'"
expect "a failed build is one line" 1 "aster: the build in $work/other failed" lib "build '$work/other' all"
stand_in df 'echo Avail; echo 3M'
expect "a build that filled the disk says so" 1 "aster: the disk is full: $work/other" lib "build '$work/other' all"

[ $n_failed -eq 0 ] || { echo "$n_failed failed"; exit 1; }
echo "all passed"

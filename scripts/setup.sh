#!/bin/sh
# Installs what moezoo needs from Debian's packages (only what is missing) and builds it into build/.
set -eu
cd "$(dirname "$0")/.."

packages="gcc g++ cmake make pkg-config libjansson-dev libcsv-dev libxxhash-dev libpcre2-dev libutf8proc-dev libsentencepiece-dev libcairo2-dev libfontconfig-dev libedit-dev libcmocka-dev"
missing=""
for p in $packages; do
    [ "$(dpkg-query -W -f='${Status}' "$p" 2>/dev/null)" = "install ok installed" ] || missing="$missing $p"
done
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || { echo "setup: this script uses apt-get; install these yourself:$missing" >&2; exit 1; }
    as_root="env"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "setup: run as root or install sudo; missing:$missing" >&2; exit 1; }
        as_root="sudo env"
    fi
    $as_root apt-get update -q
    # shellcheck disable=SC2086
    $as_root DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
fi

cmake -S . -B build
cmake --build build -j "$(nproc)"

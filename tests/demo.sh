#!/usr/bin/env bash
# The whole thing in one go: a gateway, a bucket, a mount, a file in. Used by `make demo`.
# Everything lies in .demo; `demo.sh stop` drains, stops it all and removes .demo.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly PATH="$PWD/.venv/bin:$PATH"
readonly GATEWAY=.demo/gateway MOUNT=.demo/mnt CACHE=.demo/cache

bold='' plain=''
[[ ! -t 1 ]] || { bold=$'\033[1m' plain=$'\033[0m'; }
title() { printf '\n%s\n' "$bold$*$plain"; }

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# Whether something is mounted there, alive or dead: as the kernel says, without asking it.
mounted() { findmnt --mountpoint "$PWD/$MOUNT" >/dev/null; }

# Only this gateway, whatever the caller is logged in to.
point_at_gateway() {
    local name
    for name in $(compgen -e | grep -E '^(AWS|QARNOT)_' || true); do
        unset "$name"
    done
    eval "$(python tests/rgw.py env "$GATEWAY")"
}

start() {
    title "A Ceph RADOS Gateway of our own"
    python tests/rgw.py start "$GATEWAY"
    point_at_gateway
    python tests/demo_bucket.py fill

    title "Its bucket \"demo\" as a directory"
    mkdir -p "$MOUNT"
    if mounted && ! ls "$MOUNT" >/dev/null 2>&1; then
        fusermount3 -uz "$MOUNT" # its daemon is dead; what it owed is in the cache directory
    fi
    mounted || show qarnotfs mount demo "$MOUNT" --cache-dir "$CACHE"
    show ls -l "$MOUNT" "$MOUNT/json"

    title "A file in, and the same seen from the S3 side"
    show cp README.md "$MOUNT/reports/readme.md"
    show qarnotfs flush "$MOUNT"
    show qarnotfs status
    show python tests/demo_bucket.py head reports/readme.md

    title "It is yours: look around in $MOUNT, then stop it all with: make demo-stop"
}

stop() {
    [[ -d .demo ]] || return 0
    if mounted; then
        # A mount that is dead, or whose gateway is, cannot drain: then only let go of it.
        show qarnotfs umount "$MOUNT" || fusermount3 -uz "$MOUNT"
    fi
    [[ ! -d $GATEWAY ]] || python tests/rgw.py stop "$GATEWAY"
    rm -rf --one-file-system .demo # never into a mount that would not go
    echo "demo: stopped, nothing is left"
}

case ${1-} in
start) start ;;
stop) stop ;;
*) echo "usage: $0 start|stop" >&2 && exit 2 ;;
esac

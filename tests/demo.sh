#!/usr/bin/env bash
# The whole thing in one go: a gateway, a bucket, a mount, a file in. Used by `make demo`.
# Everything lies in .demo; `demo.sh stop` drains, stops it all and removes .demo.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly GATEWAY=.demo/gateway MOUNT=.demo/mnt SETTINGS=.demo/env

bold='' plain=''
[[ ! -t 1 ]] || { bold=$'\033[1m' plain=$'\033[0m'; }
title() { printf '\n%s\n' "$bold$*$plain"; }

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# Shell commands that point everything at this demo, whatever the caller is logged in to.
settings() {
    local name
    for name in $(compgen -e | grep -E '^(AWS|QARNOT|QARNOTFS)_' || true); do
        echo "unset $name"
    done
    python tests/rgw.py env "$GATEWAY"
    printf 'export %s=%q\n' PATH "$PATH" QARNOTFS_CACHE_DIR "$PWD/.demo/cache"
    # A socket's path has 107 bytes at most; further down they are where they always are.
    [[ ${#PWD} -gt 70 ]] || printf 'export %s=%q\n' QARNOTFS_RUNTIME_DIR "$PWD/.demo/run"
}

# Whether something is mounted there, alive or dead: as the kernel says, without asking it.
mounted() { findmnt --mountpoint "$1" >/dev/null; }

# PID and mountpoint of each mount of this gateway, also those made by hand.
mounts() {
    qarnotfs status --json | python -c '
import json, os, sys
for mount in json.load(sys.stdin):
    if mount.get("endpoint") == os.environ["AWS_ENDPOINT_URL"]:
        print(mount["pid"], mount["mountpoint"])'
}

# Whether the gateway of an earlier start is still there.
answers() (
    . "$SETTINGS"
    address=${AWS_ENDPOINT_URL#*://}
    exec 3<>"/dev/tcp/${address%:*}/${address#*:}"
) 2>/dev/null

start() {
    [[ ! -e $SETTINGS ]] || answers || stop # what it held is gone with it: begin anew
    title "A Ceph RADOS Gateway of our own"
    python tests/rgw.py start "$GATEWAY"
    (umask 077 && settings >"$SETTINGS")
    . "$SETTINGS"
    python tests/demo_bucket.py fill

    title "Its bucket \"demo\" as a directory"
    mkdir -p "$MOUNT"
    if mounted "$PWD/$MOUNT" && ! ls "$MOUNT" >/dev/null 2>&1; then
        fusermount3 -uz "$MOUNT" # its daemon is dead; what it owed is in the cache directory
    fi
    mounted "$PWD/$MOUNT" || show qarnotfs mount demo "$MOUNT"
    show ls "$MOUNT"
    show ls -l "$MOUNT/json"

    title "A file in, and the same seen from the S3 side"
    show cp Makefile "$MOUNT/reports/how.txt"
    show qarnotfs flush "$MOUNT"
    show qarnotfs status "$MOUNT"
    show python tests/demo_bucket.py head reports/how.txt

    title "It is yours: look around in $MOUNT"
    echo "  . $SETTINGS         for qarnotfs commands of your own in this shell"
    echo "  make demo-stop      uploads what is left, unmounts, stops the gateway"
}

stop() {
    local pid mountpoint
    [[ -d .demo ]] || return 0
    if [[ -e $SETTINGS ]]; then
        . "$SETTINGS"
        while read -r pid mountpoint; do
            let_go "$pid" "$mountpoint"
        done < <(mounts)
    fi
    ! mounted "$PWD/$MOUNT" || fusermount3 -uz "$MOUNT" # its daemon is dead
    [[ ! -d $GATEWAY ]] || python tests/rgw.py stop "$GATEWAY"
    rm -rf --one-file-system .demo # never into a mount that would not go
    echo "demo: stopped, nothing is left"
}

# Unmount, drained. One that is in use stays, and everything with it.
let_go() {
    local pid=$1 mountpoint=$2
    show qarnotfs umount "$mountpoint" --timeout 20s && return
    ! mounted "$mountpoint" || exit 1
    echo "demo: the gateway does not answer; what was not uploaded goes with it" >&2
    kill -KILL "$pid"
}

PATH="$PWD/.venv/bin:$PATH"
case ${1-} in
start) start ;;
stop) stop ;;
*) echo "usage: $0 start|stop" >&2 && exit 2 ;;
esac

#!/usr/bin/env bash
# Make this machine able to run the demo and the tests: Debian packages that are missing,
# and .venv with the package (editable) in the versions of constraints.txt. Used by make.
# Repeated, it only looks. It never changes what is already there outside of .venv.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly OLDEST="3.11"

cannot() {
    echo "setup: cannot go on: $*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# The first Python that is new enough; nothing when there is none.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c "import sys; sys.exit(sys.version_info < (${OLDEST/./, }))" 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
}

# What this Python lacks to make a .venv and to compile pyfuse3, as Debian packages.
python_lacks() {
    "$1" - <<'PY'
import importlib.util, pathlib, sys, sysconfig
debian = "python3" if sys.version_info[:2] == (3, 11) else "python%d.%d" % sys.version_info[:2]
if not importlib.util.find_spec("ensurepip"):
    print(debian + "-venv")
if not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists():
    print(debian + "-dev")
PY
}

missing_packages() {
    local python
    python=$(find_python)
    if [[ -n $python ]]; then
        python_lacks "$python"
    elif has python3; then
        cannot "python3 is $(python3 -V 2>&1 | cut -d' ' -f2), and $OLDEST or newer is needed"
    else
        printf '%s\n' python3 python3-venv python3-dev
    fi
    has fusermount3 || echo fuse3
    has gcc || printf "%s\n" gcc libc6-dev
    has pkg-config || echo pkg-config
    { has pkg-config && pkg-config --exists fuse3; } || echo libfuse3-dev
    has radosgw || echo radosgw
    has ceph-mon || echo ceph-mon
    has ceph-osd || echo ceph-osd
    has openssl || echo openssl
    has fio || echo fio
    has git || echo git
    has make || echo make
    has rsync || echo rsync
    has sqlite3 || echo sqlite3
    has setfattr || echo attr
    has zip || echo zip
    has unzip || echo unzip
    has bzip2 || echo bzip2
    has xz || echo xz-utils
    has patch || echo patch
    has perl || echo perl
    has vim || echo vim
    has runc || echo runc
    has mmdebstrap || echo mmdebstrap
    has s3fs || echo s3fs
    has systemd-analyze || echo systemd
}

install_packages() {
    local as_root=(env) log
    has apt-get || cannot "no apt-get here to install: $*"
    if [[ $EUID -ne 0 ]]; then
        has sudo || cannot "neither root nor sudo here to install: $*"
        as_root=(sudo env)
    fi
    echo "setup: installing $*"
    log=$(mktemp)
    if ! {
        "${as_root[@]}" apt-get -q update &&
            "${as_root[@]}" DEBIAN_FRONTEND=noninteractive \
                apt-get -q -y install --no-install-recommends "$@"
    } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        cannot "apt-get could not install: $*"
    fi
    rm -f "$log"
}

make_venv() {
    local wanted stamp=.venv/made-from
    wanted="$(cat pyproject.toml constraints.txt | sha256sum) $PWD"
    if [[ -x .venv/bin/python && $(cat "$stamp" 2>/dev/null) == "$wanted" ]]; then
        return
    fi
    # A .venv whose interpreter went away or is too old is of no use.
    if ! .venv/bin/python -c "import sys; sys.exit(sys.version_info < (${OLDEST/./, }))" 2>/dev/null; then
        rm -rf .venv
        "$(find_python)" -m venv .venv
    fi
    echo "setup: installing the package and its tests' needs into .venv"
    PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install -qq \
        --constraint constraints.txt --editable '.[test]' ||
        cannot "pip could not install what constraints.txt names"
    echo "$wanted" >"$stamp"
}

[[ -e /dev/fuse ]] ||
    cannot "no /dev/fuse (load the fuse module, or give the container --device /dev/fuse --cap-add SYS_ADMIN)"
mapfile -t packages < <(missing_packages)
wait $! || exit 1
[[ ${#packages[@]} -eq 0 ]] || install_packages "${packages[@]}"
[[ -r /dev/fuse && -w /dev/fuse ]] || cannot "this user may not open /dev/fuse"
make_venv

"""The units, the mount helper and lines of /etc/fstab under a real systemd."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import make_client, remove_bucket
from tests.rgw import Gateway
from tests.s5_mount.mounting import bucket_keys
from tests.s8_cli.supervised import UNITS, Manager, installed, systemd, why_no_systemd
from tests.s8_cli.test_operating import PAGE
from tests.support import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(bool(why_no_systemd()), reason=f"no systemd: {why_no_systemd()}"),
]

[FSTAB] = re.findall(r"^```fstab\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SERVICE = "qarnotfs@data.service"
CONFIG = "/etc/qarnotfs/data.conf"
# The restart is the test's own.
QUICK = "[Service]\nRestart=no\n"
KINDS = {".service", ".mount", ".automount"}
# What logind starts for a user, and PAM gives him. With the capability he reads this checkout,
# wherever it is.
USERS_UNITS = "/usr/lib/systemd/user"
USERS_MANAGER = """
[Service]
Type=notify
User=nobody
RuntimeDirectory=user/65534 home
Environment=HOME=/run/home XDG_RUNTIME_DIR=/run/user/65534 SYSTEMD_UNIT_PATH={path}
ExecStart=/lib/systemd/systemd --user --unit=basic.target --log-target=console
Delegate=yes
AmbientCapabilities=CAP_DAC_READ_SEARCH
"""
AS_USER = "setpriv --reuid=65534 --regid=65534 --clear-groups env XDG_RUNTIME_DIR=/run/user/65534 "
# A mount that does not hang may be slow for some seconds.
WATCHED = "[Service]\nWatchdogSec=5s\nTimeoutAbortSec=1s\nRestart=no\n"


@pytest.fixture(scope="module")
def data(gateway: Gateway) -> Iterator[str]:
    """The bucket of the examples: ``data``."""
    s3 = make_client(gateway)
    s3.create_bucket(Bucket="data")
    yield "data"
    remove_bucket(s3, "data")
    s3.close()


@pytest.fixture(scope="module")
def manager(
    gateway: Gateway, data: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Manager]:
    folder = tmp_path_factory.mktemp("systemd")
    account = "".join(f'{name}="{value}"\n' for name, value in gateway.environment.items())
    what = "BUCKET=data\nDIR=/mnt/data\n# an upload waits until it is asked for\n"
    config = f"{account}{what}QARNOTFS_UPLOAD_DELAY=1h\nQARNOTFS_CACHE_TTL=0\n"
    installed(folder, {"data": config, "watched": config})
    for name, dropin in {"data": QUICK, "watched": WATCHED}.items():
        place = folder / f"units/qarnotfs@{name}.service.d"
        place.mkdir()
        (place / "test.conf").write_text(dropin)
    (folder / "etc/fstab").write_text(FSTAB)
    path = f"{folder}/units/user:{USERS_UNITS}"
    (folder / "units/user.service").write_text(USERS_MANAGER.format(path=path))
    with systemd(folder) as manager:
        yield manager


@pytest.fixture(autouse=True)
def clean(manager: Manager, s3: S3Client, data: str) -> Iterator[None]:
    yield
    manager("systemctl", "stop", "*.automount", "mnt-*.mount", "qarnotfs@*", "user.service")
    manager.sh("umount /mnt/later; umount /mnt/tab; umount /mnt/data")
    manager("systemctl", "reset-failed")
    for key in bucket_keys(s3, data):
        s3.delete_object(Bucket=data, Key=key)


def start(manager: Manager, unit: str = SERVICE) -> None:
    manager("systemctl", "start", unit).ok()


def test_the_units_are_in_order(manager: Manager) -> None:
    folder = manager("systemctl", "show", "--value", "-p", "UnitPath").ok().out.split()[0]
    for whose, place, path in (
        ("--system", UNITS, folder),
        ("--user", UNITS / "user", f"{folder}/user:{USERS_UNITS}"),
    ):
        files = [file for file in sorted(place.iterdir()) if file.suffix in KINDS]
        units = [file.name.replace("@.", "@data.") for file in files]
        where = [f"SYSTEMD_UNIT_PATH={path}", "XDG_RUNTIME_DIR=/run"]
        done = manager("env", *where, "systemd-analyze", whose, "verify", *units)
        assert (done.code, done.out) == (0, ""), done.err
        assert ".service:" not in done.err.partition("\n\n")[0]


def test_started_means_mounted(manager: Manager, s3: S3Client, data: str) -> None:
    s3.put_object(Bucket=data, Key="file", Body=b"12345")
    start(manager)
    assert manager("cat", "/mnt/data/file").ok().out == "12345"
    assert manager.show(SERVICE, "ActiveState") == "active"
    eventually(lambda: manager.show(SERVICE, "StatusText") == "Everything is in the bucket")


def test_the_status_says_what_is_pending_and_a_stop_uploads_it(
    manager: Manager, s3: S3Client, data: str
) -> None:
    start(manager)
    manager.sh("echo 1234 > /mnt/data/new").ok()
    eventually(lambda: manager.show(SERVICE, "StatusText") == "1 file left (5 B)")
    manager("systemctl", "stop", SERVICE).ok()
    assert manager.show(SERVICE, "Result") == "success"
    assert bucket_keys(s3, data) == ["new"]
    assert manager("findmnt", "/mnt/data").code == 1


def test_a_bucket_that_cannot_be_mounted_is_a_failed_unit(manager: Manager) -> None:
    """A mistake in the configuration is not tried again and again."""
    manager.sh("mkdir -p /run/more && mount --bind /run/more /etc/qarnotfs").ok()
    manager.sh("echo 'BUCKET=a/b\nDIR=/mnt/data' > /etc/qarnotfs/data.conf").ok()
    try:
        assert manager("systemctl", "start", SERVICE).code == 1
        assert manager.show(SERVICE, "ActiveState") == "failed"
    finally:
        manager("umount", "/etc/qarnotfs").ok()


def test_a_killed_mount_stays_visibly_dead_until_the_next_start(
    manager: Manager, s3: S3Client, data: str
) -> None:
    start(manager)
    manager.sh("echo 1234 > /mnt/data/new").ok()
    manager("systemctl", "kill", "--signal=KILL", SERVICE).ok()
    eventually(lambda: manager.show(SERVICE, "ActiveState") != "active")
    done = manager("ls", "/mnt/data")
    assert (done.code, "not connected" in done.err) == (2, True)
    start(manager)
    assert manager("cat", "/mnt/data/new").ok().out == "1234\n"
    manager("systemctl", "stop", SERVICE).ok()
    assert bucket_keys(s3, data) == ["new"]


def test_the_watchdog_ends_what_hangs(manager: Manager) -> None:
    service = "qarnotfs@watched.service"
    start(manager, service)
    pid = manager.show(service, "MainPID")
    eventually(lambda: manager.show(service, "WatchdogTimestampMonotonic") != "0")
    manager("kill", "-STOP", pid).ok()
    eventually(lambda: manager.show(service, "Result") == "watchdog")


def test_a_unit_of_a_user(manager: Manager, s3: S3Client, data: str) -> None:
    """Who is not root mounts by fusermount3, which no option of the unit may prevent."""
    start(manager, "user.service")
    script = "cd /run/home; mkdir -p data .config/qarnotfs; sed 's,^DIR=.*,DIR=/run/home/data,'"
    manager.sh(f"{script} {CONFIG} > .config/qarnotfs/data.conf; chown -R nobody data .config").ok()
    systemctl = f"{AS_USER} systemctl --user"
    manager.sh(f"{systemctl} start {SERVICE}").ok()
    manager.sh(f"{AS_USER} sh -c 'echo 1234 > /run/home/data/new'").ok()
    assert bucket_keys(s3, data) == []
    manager.sh(f"{systemctl} stop {SERVICE}").ok()
    assert bucket_keys(s3, data) == ["new"]
    assert manager("findmnt", "/run/home/data").code == 1


def test_an_automount_mounts_when_it_is_looked_at(
    manager: Manager, s3: S3Client, data: str
) -> None:
    s3.put_object(Bucket=data, Key="file", Body=b"12345")
    start(manager, "mnt-data.automount")
    assert manager.show("mnt-data.mount", "ActiveState") == "inactive"
    assert manager("cat", "/mnt/data/file").ok().out == "12345"
    assert manager.show("mnt-data.mount", "ActiveState") == "active"


def test_the_end_of_an_automount_waits_for_the_uploads(
    manager: Manager, s3: S3Client, data: str
) -> None:
    start(manager, "mnt-data.automount")
    manager.sh("echo 1234 > /mnt/data/new").ok()
    manager("systemctl", "stop", "mnt-data.mount").ok()
    assert bucket_keys(s3, data) == ["new"]
    assert manager.show("mnt-data.mount", "Result") == "success"


def test_without_the_umount_helper_they_arrive_later(
    manager: Manager, s3: S3Client, data: str
) -> None:
    start(manager, "mnt-data.automount")
    manager.sh("echo 1234 > /mnt/data/new; umount -i /mnt/data").ok()
    eventually(lambda: bucket_keys(s3, data) == ["new"])


def test_a_mount_in_use_is_not_unmounted(manager: Manager) -> None:
    start(manager, "mnt-data.automount")
    done = manager.sh("cd /mnt/data && umount /mnt/data")
    assert (done.code, "cannot be unmounted" in done.err) == (32, True)
    manager.sh("cd /mnt/data && umount -l /mnt/data").ok()


def test_a_line_of_fstab_is_mounted_when_it_is_looked_at(
    manager: Manager, s3: S3Client, data: str
) -> None:
    """`_netdev`, `x-systemd.automount`, `ro`, `uid=7`, and a part of the bucket."""
    for key in ("dir/file", "other"):
        s3.put_object(Bucket=data, Key=key, Body=b"12345")
    assert "remote-fs.target" in manager.show("mnt-tab.automount", "RequiredBy").split()  # at boot
    assert "network-online.target" in manager.show("mnt-tab.mount", "After").split()
    start(manager, "mnt-tab.automount")
    assert manager.show("mnt-tab.mount", "ActiveState") == "inactive"
    assert manager("stat", "-c", "%u %n", "/mnt/tab/file").ok().out == "7 /mnt/tab/file\n"
    assert manager.show("mnt-tab.mount", "ActiveState") == "active"
    assert manager("ls", "/mnt/tab").ok().out == "file\n"
    assert "Read-only" in manager.sh("touch /mnt/tab/new").err


def test_a_line_of_fstab_waits_for_mount(manager: Manager, s3: S3Client, data: str) -> None:
    """`noauto`; `allow_other`, so that others than who mounts look in."""
    s3.put_object(Bucket=data, Key="file", Body=b"12345")
    assert "remote-fs.target" not in manager.show("mnt-later.mount", "RequiredBy").split()
    assert manager("findmnt", "/mnt/later").code == 1
    manager("mount", "/mnt/later").ok()
    assert manager("setpriv", "--reuid=65534", "cat", "/mnt/later/file").ok().out == "12345"
    manager.sh("echo 1234 > /mnt/later/new").ok()
    manager("umount", "/mnt/later").ok()
    assert bucket_keys(s3, data) == ["file", "new"]


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("allow_others", "'allow_others' is not known: did you mean 'allow_other'?"),
        ("sync", "'sync' is not known: did you mean 'async'?"),
        ("cache_ttl=soon", "'soon' is not a time"),
        ("environment=/nowhere", "Cannot read /nowhere"),
    ],
)
def test_an_option_that_is_not_understood(manager: Manager, option: str, complaint: str) -> None:
    done = manager("mount", "-t", "qarnotfs", "data", "/mnt/data", "-o", option)
    assert (done.code, complaint in done.err) == (1, True)


def test_a_mount_that_fails_says_why(manager: Manager, tmp_path: Path) -> None:
    given = "environment=/etc/qarnotfs/data.conf"
    done = manager("mount", "-t", "qarnotfs", "no-such-bucket", "/mnt/data", "-o", given)
    assert (done.code, "There is no bucket 'no-such-bucket'" in done.err) == (32, True)

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
# A second is long enough for a test, and the restart is the test's own.
QUICK = "[Service]\nRestart=no\n"
WATCHED = "[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\nRestart=no\n"


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
    with systemd(folder) as manager:
        yield manager


@pytest.fixture(autouse=True)
def clean(manager: Manager, s3: S3Client, data: str) -> Iterator[None]:
    yield
    manager("systemctl", "stop", "mnt-data.automount", "mnt-data.mount", "qarnotfs@*")
    manager.sh("umount /mnt/tab; umount /mnt/data")
    manager("systemctl", "reset-failed")
    for key in bucket_keys(s3, data):
        s3.delete_object(Bucket=data, Key=key)


def start(manager: Manager, unit: str = SERVICE) -> None:
    manager("systemctl", "start", unit).ok()


def test_the_units_are_in_order(manager: Manager) -> None:
    units = [path.name for path in UNITS.iterdir() if path.suffix != ".conf"]
    names = [name.replace("@.", "@data.") for name in sorted(units)]
    folder = manager("systemctl", "show", "--value", "-p", "UnitPath").ok().out.split()[0]
    done = manager("env", f"SYSTEMD_UNIT_PATH={folder}", "systemd-analyze", "verify", *names)
    assert (done.code, done.out) == (0, "")
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


def test_a_line_of_fstab(manager: Manager, s3: S3Client, data: str) -> None:
    """With options for systemd, for the kernel and for us, and a part of the bucket."""
    for key in ("dir/file", "other"):
        s3.put_object(Bucket=data, Key=key, Body=b"12345")
    manager("mount", "/mnt/tab").ok()
    assert manager("stat", "-c", "%u %n", "/mnt/tab/file").ok().out == "7 /mnt/tab/file\n"
    assert "Read-only" in manager.sh("touch /mnt/tab/new").err
    manager("umount", "/mnt/tab").ok()


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

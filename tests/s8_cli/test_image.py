"""The image that ``Containerfile`` makes, used as docs/OPERATING.md and README.md say, in runc.

Its root file system has nothing but what the Containerfile put there: whatever is missing in it is
missing for everybody.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shlex
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qarnotfs import __version__
from tests.conftest import remove_bucket
from tests.qarnot_api import QarnotApi
from tests.rgw import Gateway
from tests.s5_mount.mounting import Done, bucket_keys
from tests.s8_cli.containers import ROOT, Container, why_no_user_namespace
from tests.s8_cli.image import CAPABILITIES, PATH, Image, build, why_no_image
from tests.s8_cli.test_operating import PAGE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [
    pytest.mark.mount,
    pytest.mark.timeout(600),  # the first of them builds the image: a minute of CPU
    pytest.mark.skipif(bool(why_no_image()), reason=f"no image: {why_no_image()}"),
]

UIDS = {"root": 0, "job": 1000}
HOMES = {"root": "/root", "job": "/job"}
TOKEN = "export QARNOT_CLIENT_TOKEN=..."
COMMANDS = re.findall(r"^(?:docker|podman) run .*$", PAGE.replace("\\\n", ""), re.MULTILINE)
MOUNTING = (ROOT / "README.md").read_text().partition("\n## Mount\n")[2].partition("\n## ")[0]


@pytest.fixture
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Built once, by the first who wants it, which takes most of the time of this file.

    Used by one test at a time, without what the container of another left in the job's directory.
    """
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place  # of all of them
    noted = place / "image.json"
    with (place / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not noted.exists():
            noted.write_text(json.dumps(_built(place / f"image-{uuid.uuid4().hex}")))
        root, entry_point, cwd = json.loads(noted.read_text())
        home = Path(root) / "job"
        before = set(home.iterdir())
        yield Image(Path(root), entry_point, cwd)
        for path in set(home.iterdir()) - before:
            shutil.rmtree(path)


def _built(folder: Path) -> tuple[str, list[str], str]:
    folder.mkdir()
    image = build(folder)
    job = image.root / "job/job"
    job.write_text("#!/bin/sh\ncp in/list out/copy\nexit 3\n")
    job.chmod(0o755)
    (image.root / "etc/mtab").symlink_to("/proc/mounts")  # as Docker and podman do
    return str(image.root), image.entry_point, image.cwd


@pytest.fixture
def api(gateway: Gateway) -> Iterator[QarnotApi]:
    """Qarnot, whose storage is the gateway: a token is the secret key there, too."""
    with QarnotApi(gateway.secret_key, gateway.access_key, gateway.endpoint) as api:
        yield api


def ended(container: Container) -> Done:
    with container.running() as process:
        out, err = process.communicate()
    return Done(process.returncode, out, err)


def started(image: Image, folder: Path, command: str, environment: dict[str, str]) -> Done:
    """What Docker and podman make of a ``run`` command of the page; no option may be unknown."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--user", default="root")
    for name in ("--device", "--cap-add", "--security-opt", "-e", "-v"):
        parser.add_argument(name, action="append", default=[])
    parser.add_argument("--entrypoint")
    parser.add_argument("image", choices=["qarnotfs"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    asked = parser.parse_args(shlex.split(command)[2:])
    entry_point = [asked.entrypoint] if asked.entrypoint else image.entry_point
    return ended(
        Container(
            folder / "oci",
            [*entry_point, *asked.arguments],
            {"PATH": PATH, "HOME": HOMES[asked.user], "QARNOT_CLUSTER_URL": environment["URL"]}
            | {name: environment[name] for name in asked.e},
            fuse="/dev/fuse" in asked.device,
            capabilities=[*CAPABILITIES, *(f"CAP_{name}" for name in asked.cap_add)],
            uid=UIDS[asked.user],
            root=image.root,
            volumes={place: folder for _, place in (words.split(":") for words in asked.v)},
            cwd=image.cwd,
        )
    )


def test_it_says_its_version_and_has_no_compiler(image: Image, tmp_path: Path) -> None:
    command = "docker run --entrypoint qarnotfs qarnotfs --version"
    assert started(image, tmp_path, command, {"URL": ""}).ok().out == f"qarnotfs {__version__}\n"
    assert not list(image.root.glob("usr/bin/*gcc*"))


@pytest.mark.skipif(
    bool(why_no_user_namespace()), reason=f"no user namespace: {why_no_user_namespace()}"
)
@pytest.mark.parametrize("command", COMMANDS, ids=["root", "user namespace", "no fuse"])
def test_the_commands_of_the_page(
    command: str, image: Image, api: QarnotApi, buckets: S3Client, tmp_path: Path
) -> None:
    environment = {"URL": api.url, "QARNOT_CLIENT_TOKEN": api.token}
    done = started(image, tmp_path, command, environment)
    assert (done.code, bucket_keys(buckets, "results")) == (3, ["copy"]), done.err
    assert bool(list(tmp_path.glob("inputs-*"))) == ("/var/lib/qarnotfs" in command)


# --- a person, with README.md -----------------------------------------------------------------


@pytest.fixture
def my_bucket(gateway: Gateway, s3: S3Client) -> Iterator[str]:
    s3.create_bucket(Bucket="my-bucket")
    for key in ("projects/a", "top"):
        s3.put_object(Bucket="my-bucket", Key=key, Body=b"1")
    yield "my-bucket"
    remove_bucket(s3, "my-bucket")


def mounts_of_the_page() -> Iterator[str]:
    """Each ``qarnotfs mount`` with the login that is written before it."""
    for block in re.findall(r"(?:^    .*\n)+", MOUNTING, re.MULTILINE):
        lines = [line.strip() for line in block.splitlines()]
        logins = [line for line in lines if line.startswith("export ")] or [TOKEN]
        for line in lines:
            if line.startswith("qarnotfs mount "):
                named = re.search("--conf|--profile", line)
                yield "\n".join([*([] if named else logins), line])


def test_the_mounts_of_the_readme(
    image: Image, api: QarnotApi, gateway: Gateway, my_bucket: str, tmp_path: Path
) -> None:
    """By token, `qarnot.conf`, AWS variables and profile; and parts of a bucket."""
    filled = {
        TOKEN: f"export QARNOT_CLIENT_TOKEN={api.token} QARNOT_CLUSTER_URL={api.url}",
        "AWS_ACCESS_KEY_ID=...": f"AWS_ACCESS_KEY_ID={gateway.access_key}",
        "AWS_SECRET_ACCESS_KEY=...": f"AWS_SECRET_ACCESS_KEY={gateway.secret_key}",
        "https://s3.example.org": gateway.endpoint,
    }
    script = "mkdir -p /mnt/data; cd\n"
    for lines in mounts_of_the_page():
        script += f"(\n{lines}\nls /mnt/data | xargs\nqarnotfs umount /mnt/data\n)\n"
    for what, with_what in filled.items():
        assert what in script
        script = script.replace(what, with_what)
    done = ended(
        Container(
            tmp_path / "oci",
            ["bash", "-euc", script],
            {"PATH": PATH, "HOME": "/root"},
            fuse=True,
            capabilities=[*CAPABILITIES, "CAP_SYS_ADMIN"],
            root=image.root,
            volumes={"/root": at_home(tmp_path / "home", api, gateway)},
        )
    )
    seen = [line for line in done.ok().out.splitlines() if "ounted" not in line]
    assert seen == [*["projects top"] * 4, "a", "projects"]


def at_home(folder: Path, api: QarnotApi, gateway: Gateway) -> Path:
    """What a person has: `qarnot.conf`, a profile, and a bucket as the SDK writes it."""
    spec = {"bucketName": "my-bucket", "filtering": {"prefixFiltering": {"prefix": "projects/"}}}
    files = {
        "qarnot.conf": f"[cluster]\nurl={api.url}\n[client]\ntoken={api.token}\n",
        ".aws/credentials": f"[work]\naws_access_key_id={gateway.access_key}\n"
        f"aws_secret_access_key={gateway.secret_key}\n",
        "bucket.json": json.dumps(spec),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_user_mounts_without_being_root(
    image: Image, gateway: Gateway, my_bucket: str, s3: S3Client, tmp_path: Path
) -> None:
    """By fusermount3, in a home directory that has nothing in it yet."""
    script = """
        mkdir data; qarnotfs check my-bucket; qarnotfs mount my-bucket data
        ls data; echo x > data/new; id -u; qarnotfs umount data; ls -A data
    """
    done = ended(
        Container(
            tmp_path / "oci",
            ["bash", "-euc", script],
            gateway.environment | {"PATH": PATH, "HOME": HOMES["job"]},
            fuse=True,
            capabilities=[*CAPABILITIES, "CAP_SYS_ADMIN"],
            uid=UIDS["job"],
            root=image.root,
            cwd=image.cwd,
        )
    )
    out = done.ok().out
    assert "WRONG" not in out
    assert "\nprojects\ntop\n1000\n" in out
    assert bucket_keys(s3, my_bucket) == ["new", "projects/a", "top"]

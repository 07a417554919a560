"""What README.md shows of ``status`` and ``check``: recorded from a real run.

    python -m tests.recordings        # record it anew, in /tmp/demo

One mount is uploading, a file of it was refused, another mount is read-only and pinned. The suite
plays the same scene and compares, see test_recordings.py.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import make_client, remove_bucket
from tests.faults import Fault, FaultProxy, Rule
from tests.rgw import Gateway
from tests.s5_mount.mounting import Cli, Mount
from tests.support import eventually

README = Path(__file__).parents[1] / "README.md"
PLACE = Path("/tmp/demo")
BUCKETS = ("results", "models")
HEADING = "## See how it goes\n\n```\n"
FRAMES = {"frames/0001.exr": 40 << 20, "frames/0002.exr": 30 << 20}
FIGURES = (
    r"(\d+ min )?\d+ s (to go|ago)|"
    r"\[[#.]+\]|[0-9A-F]{4}…|[0-9a-f]{12}\w*|[A-Z][a-z]{2} +\d+ \d\d:\d\d|\d+(\.\d+)?( [KMG]iB)?"
)
SENT_BYTES = 32 << 20  # of the frames, when it is recorded


@contextmanager
def scene(gateway: Gateway, base: Path) -> Iterator[Cli]:
    """The two mounts, both with something to show."""
    cli = Cli(base, base / "run", gateway.environment)
    s3 = make_client(gateway)
    results, models = (Mount(cli, name, base / "mnt" / name, base / "cache") for name in BUCKETS)
    for mount in (results, models):
        s3.create_bucket(Bucket=mount.bucket)
        mount.path.mkdir(parents=True)
    s3.put_object(Bucket="models", Key="m/one.bin", Body=bytes(3 << 20))
    with FaultProxy(gateway) as proxy:
        try:
            results.start(["--upload-delay", "0.1"], {"AWS_ENDPOINT_URL": proxy.endpoint})
            models.start(["--read-only", "--pin", "m/"], {})
            eventually(lambda: models.status()["pins"][0]["done"])
            (models.path / "m/one.bin").read_bytes()
            _be_busy(results, proxy)
            yield cli
        finally:
            proxy.calm()
            for mount in (results, models):
                mount.try_unmount("--timeout", "5s", "--force")
                mount.remove()
                remove_bucket(s3, mount.bucket)
            s3.close()


def _be_busy(mount: Mount, proxy: FaultProxy) -> None:
    proxy.fail(lambda method, target: method == "PUT" and "bad" in target, 403)
    (mount.path / "bad.txt").write_bytes(b"x")
    (mount.path / "notes.txt").write_bytes(os.urandom(1 << 20))
    (mount.path / "frames").mkdir()
    eventually(lambda: mount.status()["refused_files"])
    eventually(lambda: mount.status()["uploaded_files"] == 2)
    held = ("partNumber=3", "partNumber=4")
    proxy.inject(Rule(Fault.HANG, lambda _, target: any(part in target for part in held)))
    for name, size in FRAMES.items():
        (mount.path / name).write_bytes(os.urandom(size))
    eventually(lambda: _sent(mount))


def _sent(mount: Mount) -> bool:
    status = mount.status()
    sent = sum(one["bytes_sent"] for one in status["transfers"])
    return bool(sent >= SENT_BYTES and status["upload_bytes_per_sec"])


def recorded(cli: Cli, base: Path) -> str:
    """The two commands, and what they say, but of other mounts of this machine."""
    said = []
    for line in ("qarnotfs status", f"qarnotfs check results --speed --cache-dir {base}/cache"):
        out = cli(*shlex.split(line)[1:]).out.splitlines()
        ours = [one.rstrip() for one in out if one[0] != "/" or one.startswith(str(base))]
        said.append("\n".join([f"$ {line}", *ours, ""]))
    return "\n".join(said)


def alike(text: str, base: Path) -> list[str]:
    """Lines without what differs from run to run: figures, widths of columns, ``base``."""
    same = re.sub(FIGURES, "N", text.replace(str(base), "BASE"))
    return [re.sub(" +", " ", line) for line in same.splitlines()]


def shown() -> str:
    """What is in README.md now."""
    return README.read_text().partition(HEADING)[2].partition("```")[0]


def main() -> None:
    shutil.rmtree(PLACE, ignore_errors=True)
    gateway = Gateway(PLACE / "gateway")
    gateway.start()
    try:
        with scene(gateway, PLACE) as cli:
            text = recorded(cli, PLACE)
    finally:
        gateway.stop()
        shutil.rmtree(PLACE, ignore_errors=True)
    README.write_text(README.read_text().replace(HEADING + shown(), HEADING + text))


if __name__ == "__main__":
    main()

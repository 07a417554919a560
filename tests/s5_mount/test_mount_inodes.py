"""What a mount remembers of the files that the kernel knows is bounded, and nobody notices."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.s5_mount.mounting import Mount
from tests.support import eventually

MAX = 50
COUNT = 300


def test_the_kernel_is_made_to_forget(mounts: Callable[..., Mount]) -> None:
    mount = mounts("--inodes-max", str(MAX), "--cache-ttl", "3600")
    names = [f"{number:03}" for number in range(COUNT)]
    (mount.path / "d" / "here").mkdir(parents=True)
    with (mount.path / "d" / "000").open("w+") as opened:
        for name in names:
            (mount.path / "d" / name).write_text(name)
        here = os.open(mount.path / "d" / "here", os.O_RDONLY | os.O_DIRECTORY)
        eventually(lambda: mount.status()["inodes"] <= MAX + 1)
        opened.write("more")  # of the oldest of all
        opened.flush()
        opened.seek(0)
        assert opened.read() == "more"
        assert os.readlink(f"/proc/self/fd/{opened.fileno()}") == str(mount.path / "d" / "000")
    assert os.readlink(f"/proc/self/fd/{here}") == str(mount.path / "d" / "here")
    os.close(here)
    for name in names:
        (mount.path / "d" / name).chmod(0o600)
    mount.flush()
    for name in names[1:]:
        path = mount.path / "d" / name
        assert (path.stat().st_mode & 0o777, path.read_text()) == (0o600, name)
    assert (mount.path / "d" / "000").read_text() == "more"
    assert len(os.listdir(mount.path / "d")) == COUNT + 1

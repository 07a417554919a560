"""A program that does random things to names, as fsstress does to file systems.

    python -I tests/stresser.py OWN TWIN SHARED SEED STEPS

Used by `test_mount_stress`, which runs several. What it does in OWN, where nobody else is, it
does in TWIN, a directory on a disk, and what comes of it must be the same. In SHARED, where
others do the same, only the errors of such company are allowed. It ends at the first that is not.
"""

from __future__ import annotations

import errno
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NAMES = ["a", "b", "c", "d", "e"]
DEPTH_MAX = 3
LONG_AGO_NS = 1_000_000_000 * 10**9
# What may come of a call while others take names away, bring them and make them something else.
IN_COMPANY = {
    *(errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR),
    *(errno.EINVAL, errno.ELOOP, errno.ENODATA, errno.EPERM, errno.ENXIO),
}
# EPERM: attributes of links and pipes. ENXIO: nobody reads from the pipe.
Call = Callable[[str], object]


class Stresser:
    """Draws calls; each is a function of the directory in which to make it."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._draws = [
            *[self.write] * 6 + [self.mkdir] * 3 + [self.rename] * 6 + [self.unlink] * 3,
            *[self.read, self.append, self.list, self.stat, self.truncate, self.rmdir] * 2,
            *(self.chmod, self.date, self.symlink, self.pipe, self.attribute, self.no_attribute),
            *(self.attributes, self.hold, self.copy, self.sync),
        ]

    def draw(self) -> tuple[str, Call]:
        """A call, and what to say of it."""
        kind = self._dice.choice(self._draws)
        return kind.__name__, kind()

    def write(self) -> Call:
        return self._writing(os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def append(self) -> Call:
        return self._writing(os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def truncate(self) -> Call:
        path, size = self._path(), self._dice.randrange(20_000)
        return lambda top: os.truncate(top + path, size)

    def read(self) -> Call:
        path = self._path()

        def read(top: str) -> bytes:
            with _opened(top + path, os.O_RDONLY) as descriptor:
                return os.read(descriptor, 1 << 20)

        return read

    def copy(self) -> Call:
        """The first bytes of one file over those of another, in the kernel."""
        source, target = self._path(), self._path()

        def copy(top: str) -> int:
            with (
                _opened(top + source, os.O_RDONLY) as one,
                _opened(top + target, os.O_RDWR) as two,
            ):
                same = os.path.samestat(os.fstat(one), os.fstat(two))
                return -1 if same else os.copy_file_range(one, two, 1 << 20, 0, 0)

        return copy

    def hold(self) -> Call:
        """A temporary file that loses its name while it is open."""
        path, data = self._path(), self._data()

        def hold(top: str) -> bytes:
            with _opened(top + path, os.O_RDWR | os.O_CREAT | os.O_EXCL) as descriptor:
                os.unlink(top + path)
                os.write(descriptor, data)
                return os.pread(descriptor, 1 << 20, 0)

        return hold

    def sync(self) -> Call:
        path = self._path()

        def sync(top: str) -> None:
            with _opened(top + path, os.O_RDONLY) as descriptor:
                os.fsync(descriptor)

        return sync

    def rename(self) -> Call:
        old, new = self._path(), self._path()
        return lambda top: os.rename(top + old, top + new)

    def unlink(self) -> Call:
        path = self._path()
        return lambda top: os.unlink(top + path)

    def mkdir(self) -> Call:
        path = self._path()
        return lambda top: os.mkdir(top + path)

    def rmdir(self) -> Call:
        path = self._path()
        return lambda top: os.rmdir(top + path)

    def symlink(self) -> Call:
        path, target = self._path(), self._dice.choice(NAMES)
        return lambda top: os.symlink(target, top + path)

    def pipe(self) -> Call:
        path = self._path()
        return lambda top: os.mkfifo(top + path)

    def list(self) -> Call:
        path = self._path()
        return lambda top: sorted(os.listdir(top + path))

    def stat(self) -> Call:
        path = self._path()

        def stat(top: str) -> tuple[int, int]:
            found = os.lstat(top + path)
            return found.st_mode, 0 if os.path.isdir(top + path) else found.st_size

        return stat

    def chmod(self) -> Call:
        path, mode = self._path(), self._dice.choice([0o600, 0o755, 0o4711, 0o1777])
        return lambda top: os.chmod(top + path, mode)

    def date(self) -> Call:
        path, date = self._path(), LONG_AGO_NS + self._dice.randrange(10**9)
        return lambda top: os.utime(top + path, ns=(date, date))

    def attribute(self) -> Call:
        path, value = self._path(), self._data()[:100]
        return lambda top: os.setxattr(top + path, "user.x", value)

    def no_attribute(self) -> Call:
        path = self._path()
        return lambda top: os.removexattr(top + path, "user.x")

    def attributes(self) -> Call:
        path = self._path()
        return lambda top: [os.getxattr(top + path, name) for name in os.listxattr(top + path)]

    # --- how ----------------------------------------------------------------------------------

    def _path(self) -> str:
        return "".join(
            "/" + self._dice.choice(NAMES) for _ in range(self._dice.randint(1, DEPTH_MAX))
        )

    def _data(self) -> bytes:
        return self._dice.randbytes(self._dice.randrange(1, 20_000))

    def _writing(self, flags: int) -> Call:
        path, data = self._path(), self._data()

        def write(top: str) -> int:
            with _opened(top + path, flags) as descriptor:
                return os.write(descriptor, data)

        return write


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def outcome(call: Call, top: str) -> object:
    """What it returns, or the errno by name."""
    try:
        return call(top)
    except OSError as error:
        number = errno.EEXIST if error.errno == errno.ENOTEMPTY else error.errno or 0
        return errno.errorcode[number]


def main(own: str, twin: str, shared: str, seed: int, steps: int) -> None:
    stresser = Stresser(seed)
    allowed = {errno.errorcode[number] for number in IN_COMPANY}
    for step in range(steps):
        name, call = stresser.draw()
        found, expected = outcome(call, own), outcome(call, twin)
        if found != expected:
            sys.exit(f"seed {seed}, step {step}: {name}: {found!r}, on a disk {expected!r}")
        name, call = stresser.draw()
        found = outcome(call, shared)
        if isinstance(found, str) and found not in allowed:
            sys.exit(f"seed {seed}, step {step}: {name} in company: {found}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))

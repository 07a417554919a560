"""Which uploads, copies on the server and deletions make a bucket equal to local files.

Used by `bucket`, in both directions: `Question` also tells whether a local file is a given
object. Pure: it decides about names, sizes and etags and never sees a byte.

Contents are compared by S3's etag: the MD5 of the bytes, or of the MD5s of N parts with
``-N`` behind. It depends on the size of the parts, which the etag does not say: 8 MiB is
what the SDK uses, and we; other sizes that give N parts are tried for what others wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

from qarnotfs.store.base import KEY_BYTES_MAX, PART_COUNT_MAX

MIB = 1 << 20
PART_BYTES = 8 * MIB  # the SDK's, and the size from which it sends parts
# What other tools use: aws cli, rclone, s3fs, s3cmd, mountpoint-s3, minio, Cyberduck ...
OTHER_PART_BYTES = tuple(
    n * MIB for n in (5, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256, 500, 512, 1000, 1024)
)
NAME_BYTES_MAX = 255  # Linux: one segment of a path


class Content(NamedTuple):
    """What a file or an object holds: ``size`` in bytes, and the etag without quotes.

    ``etag`` is ``None`` for a local file that can equal nothing else, so nobody asked.
    """

    size: int
    etag: str | None


class Copy(NamedTuple):
    """One copy on the server, from key to key."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order they are to be run; names within one step in any order.

    ``copies`` come in waves: a later one may overwrite what an earlier one copies from.
    ``late_copies`` copy what ``uploads`` stored. ``deletes`` come last.
    """

    copies: tuple[tuple[Copy, ...], ...]
    uploads: tuple[str, ...]
    late_copies: tuple[Copy, ...]
    deletes: tuple[str, ...]
    unchanged: tuple[str, ...]


# --- contents ------------------------------------------------------------------------------


def part_bytes(size: int) -> int:
    """The size of the parts that a file of ``size`` bytes is sent in, as boto3 has it."""
    part = PART_BYTES
    while size > part * PART_COUNT_MAX:
        part *= 2
    return part


def usual_grid(size: int) -> int:
    """The part size of the SDK's etag; 0: it is the MD5 of the whole."""
    return part_bytes(size) if size >= PART_BYTES else 0


def grids(size: int, etag: str) -> tuple[int, ...]:
    """The part sizes with which ``size`` bytes may have got this etag; 0: all at once."""
    _, dash, count = etag.partition("-")
    if not dash:
        return (0,)
    sizes = dict.fromkeys((part_bytes(size), *OTHER_PART_BYTES))
    return tuple(part for part in sizes if str(-(-size // part)) == count)


@dataclass(frozen=True, slots=True)
class Question:
    """Which of some etags a local file has. ``own``: of the object of the same name and size.

    ``known``: the etags of all objects of this size; shared between questions.
    """

    size: int
    own: str | None
    known: Mapping[str, None]
    known_grids: tuple[int, ...]

    def answer(self, etag_of: Callable[[int], str]) -> str:
        """``etag_of`` computes the file's etag for a part size, and is asked as little as can be.

        One of the given etags, when the file has it; else the one that it will be sent with.
        """
        if self.own is not None:
            for grid in grids(self.size, self.own):
                if etag_of(grid) == self.own:
                    return self.own
        for grid in self.known_grids:
            if (etag := etag_of(grid)) in self.known:
                return etag
        return etag_of(usual_grid(self.size))


def questions(wanted: Mapping[str, int], stored: Mapping[str, Content]) -> dict[str, Question]:
    """The names of ``wanted`` (name -> size) whose content decides something."""
    counts = Counter(wanted.values())
    known: dict[int, dict[str, None]] = {size: {} for size in counts}
    for size, etag in stored.values():
        if size in known and etag is not None:
            known[size][etag] = None
    size_grids = {size: _all_grids(size, etags) for size, etags in known.items()}
    return {
        name: Question(size, _own(stored.get(name), size), known[size], size_grids[size])
        for name, size in wanted.items()
        if known[size] or counts[size] > 1
    }


def question(size: int, etag: str) -> Question:
    """Whether a local file of ``size`` bytes has this etag."""
    return Question(size, etag, {etag: None}, ())


def _own(content: Content | None, size: int) -> str | None:
    return content.etag if content is not None and content.size == size else None


def _all_grids(size: int, etags: Iterable[str]) -> tuple[int, ...]:
    """The part sizes of all these etags, the usual one first."""
    forms = {etag.partition("-")[2]: etag for etag in etags}
    found = (grid for etag in forms.values() for grid in grids(size, etag))
    return tuple(dict.fromkeys((usual_grid(size), *found)))


# --- the plan --------------------------------------------------------------------------------


def plan(
    wanted: Mapping[str, Content],
    stored: Mapping[str, Content],
    *,
    under: str = "",
    delete: bool = True,
    is_kept: Callable[[str], bool] = lambda name: False,
) -> Plan:
    """What makes each name of ``wanted`` have its content in the bucket.

    ``stored``: what the bucket has. Deleted is what ``wanted`` lacks, starts with ``under``
    (``""`` or ending in ``/``) and is not ``is_kept``.
    """
    unchanged = tuple(name for name, content in wanted.items() if stored.get(name) == content)
    changed = wanted.keys() - set(unchanged)
    sources = _sources({name: wanted[name] for name in wanted if name in changed}, stored)
    copies = tuple(_waves(sources, changed))
    uploads, late_copies = _firsts(
        (name, wanted[name]) for name in wanted if name in changed and name not in sources
    )
    return Plan(
        copies=copies,
        uploads=uploads,
        late_copies=late_copies,
        deletes=tuple(
            name
            for name in stored
            if delete and name.startswith(under) and name not in wanted and not is_kept(name)
        ),
        unchanged=unchanged,
    )


def _sources(changed: Mapping[str, Content], stored: Mapping[str, Content]) -> dict[str, str]:
    """For each changed name an object with its content; best one that nobody overwrites."""
    holders: dict[Content, str] = {}
    for name, content in stored.items():
        if content not in holders or holders[content] in changed:
            holders[content] = name
    return {name: holders[content] for name, content in changed.items() if content in holders}


def _waves(sources: dict[str, str], changed: Set[str]) -> Iterator[tuple[Copy, ...]]:
    """Copies such that each runs before its source is overwritten.

    In a circle (``a`` and ``b`` swap names) that cannot be: one of it is taken out of
    ``sources``, to be uploaded.
    """
    readers = Counter(source for source in sources.values() if source in changed)
    ready = [name for name in sources if not readers[name]]
    ready += [name for name in readers if name not in sources]  # uploads, which come later
    left = dict.fromkeys(name for name in sources if readers[name])
    while ready or left:
        if not ready:
            out = next(iter(left))
            freed = [sources.pop(out)]
            del left[out]
        else:
            if wave := tuple(Copy(sources[name], name) for name in ready if name in sources):
                yield wave
            freed = [sources[name] for name in ready if name in sources]
        ready = []
        for name in freed:
            readers[name] -= 1
            if not readers[name] and name in left:
                ready.append(name)
                del left[name]


def _firsts(
    missing: Iterable[tuple[str, Content]],
) -> tuple[tuple[str, ...], tuple[Copy, ...]]:
    """One name of each content is uploaded, the others are copied from it."""
    uploads: list[str] = []
    copies: list[Copy] = []
    firsts: dict[Content, str] = {}
    for name, content in missing:
        first = firsts.setdefault(content, name) if content.etag is not None else name
        if first == name:
            uploads.append(name)
        else:
            copies.append(Copy(first, name))
    return tuple(uploads), tuple(copies)


# --- names -----------------------------------------------------------------------------------


def unstorable(key: str) -> str | None:
    """Why no bucket can have this key; ``None``: it can."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return None if size <= KEY_BYTES_MAX else f"its key would have {size} bytes, 1024 are possible"


def unholdable(name: str) -> str | None:
    """Why no directory can hold a file of this name, a path; ``None``: it can."""
    for segment in name.split("/"):
        if segment in ("", ".", ".."):
            return f"no file system can hold a name with the segment {segment!r}"
        if "\0" in segment:
            return "no file system can hold a name with NUL"
        if len(segment.encode()) > NAME_BYTES_MAX:
            return f"a part of its name has more than {NAME_BYTES_MAX} bytes"
    return None


def directories_of(names: Iterable[str]) -> set[str]:
    """Every directory above these paths."""
    found: set[str] = set()
    for name in names:
        while (name := name.rpartition("/")[0]) and name not in found:
            found.add(name)
    return found

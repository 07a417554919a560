"""Every segment of a visible key has a file name, and every file name one segment. Pure.

Used by `core.tree` and `core.filesystem`. It never looks at the bucket: whether a key
clashes with a directory is the caller's knowledge.

A key is cut at ``/`` into segments (`a//b` into `a`, nothing, `b`; `dir/` into `dir`, nothing).
A segment is its own file name, but for what a path cannot say:

    segment                      file name
    (empty)                      %2F
    .                            %2E
    ..                           %2E%2E
    NUL, anywhere                %00
    a, beside a directory a      a%FILE        (`Segment.clash`)
    a name that looks so         a 25 more behind its %: a%FILE -> a%25FILE, %252F -> %25252F

``%41``, ``100%``, ``a%2Fb`` and ``100%25`` do not look so and stay untouched. `encode` and
`decode` are inverse to each other both ways: each name that is UTF-8 is the name of exactly
one (segment, clash), so what a user creates is seen again under the name it was given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qarnotfs.errors import InvalidName, NameTooLong
from qarnotfs.store.base import KEY_BYTES_MAX

NAME_BYTES_MAX = 1024  # FUSE_NAME_MAX of the kernel; also the longest key

_WORDS = {"": "%2F", ".": "%2E", "..": "%2E%2E"}
_SEGMENTS = {word: segment for segment, word in _WORDS.items()}

# Each matches one of our escapes behind any number of quotings; a quoting is one more "25".
_WORD = re.compile(r"%(?P<quotes>(?:25)*)(?:2F|2E|2E%2E)")  # a whole name
_NUL = re.compile(r"%(?P<quotes>(?:25)*)00")  # anywhere
# At the end, behind what is itself a name: "." and ".." are none.
_CLASH = re.compile(r"(?!\.\.?%(?:25)*FILE\Z)(?P<segment>.+)%(?P<quotes>(?:25)*)FILE", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a key. ``clash``: it is an object whose key is a directory's name too."""

    text: str
    clash: bool = False


def split(visible_key: str) -> tuple[str, ...]:
    """The segments of a key; the last of a key that ends in ``/`` is empty."""
    return tuple(visible_key.split("/"))


def join(segments: tuple[str, ...]) -> str:
    """The inverse of `split`."""
    return "/".join(segments)


def fits(key: str) -> bool:
    """Whether an object can have that key."""
    return len(key.encode()) <= KEY_BYTES_MAX


def checked(key: str) -> str:
    """A new key itself, or `NameTooLong`."""
    if not fits(key):
        raise NameTooLong(f"A key has at most {KEY_BYTES_MAX} bytes.")
    return key


def encode(segment: str, clash: bool = False) -> bytes:
    """The file name of a segment, which has no ``/``.

    `NameTooLong` for the few that need escapes beyond 1024 bytes: no kernel takes such a
    name, so a listing must leave it out. `InvalidName` for text that is not Unicode.
    """
    name = _encode_text(segment)
    if clash:
        name += "%FILE"
    elif "%" in name and (look_alike := _CLASH.fullmatch(name)):
        name = _quoted(look_alike)
    try:
        return _checked_length(name.encode())
    except UnicodeEncodeError:
        raise InvalidName(f"The name {segment!r} is not valid UTF-8.") from None


def decode(name: bytes) -> Segment:
    """The segment of a file name, as the kernel gives it.

    `InvalidName` for one that is not UTF-8 or that no directory can hold; `NameTooLong`.
    """
    try:
        text = _checked_length(name).decode()
    except UnicodeDecodeError:
        raise InvalidName(f"The name {name!r} is not valid UTF-8.") from None
    if text in _WORDS or "/" in text or "\0" in text:
        raise InvalidName(f"{name!r} is not the name of a file.")
    suffix = _CLASH.fullmatch(text)
    if suffix is None:
        return Segment(_decode_text(text))
    if not suffix["quotes"]:
        return Segment(_decode_text(suffix["segment"]), clash=True)
    return Segment(_decode_text(_unquoted(suffix)))


def is_escaped(segment: str) -> bool:
    """Whether the file name of a segment, beside no directory of its name, is another text."""
    name = _encode_text(segment)
    return name != segment or _CLASH.fullmatch(name) is not None


def _encode_text(segment: str) -> str:
    if segment in _WORDS:
        return _WORDS[segment]
    if "%" not in segment and "\0" not in segment:  # nearly all; a million of them are listed
        return segment
    if look_alike := _WORD.fullmatch(segment):
        return _quoted(look_alike)
    return _NUL.sub(_quoted, segment).replace("\0", "%00")


def _decode_text(name: str) -> str:
    if name in _SEGMENTS:
        return _SEGMENTS[name]
    if look_alike := _WORD.fullmatch(name):
        return _unquoted(look_alike)
    return _NUL.sub(lambda nul: _unquoted(nul) if nul["quotes"] else "\0", name)


def _quoted(match: re.Match[str]) -> str:
    """The matched text with one quoting more."""
    at = match.start("quotes") - match.start()
    return f"{match[0][:at]}25{match[0][at:]}"


def _unquoted(match: re.Match[str]) -> str:
    """The matched text with one quoting less; it has at least one."""
    at = match.start("quotes") - match.start()
    return match[0][:at] + match[0][at + 2 :]


def _checked_length(name: bytes) -> bytes:
    if len(name) > NAME_BYTES_MAX:
        raise NameTooLong(f"A name of {len(name)} bytes is too long: {NAME_BYTES_MAX} at most.")
    return name

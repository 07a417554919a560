"""`core.foresight`: whose attributes are asked for, of programs in order and of others."""

from __future__ import annotations

from collections.abc import Iterable

from qarnotfs.core.foresight import AHEAD, AHEAD_FIRST, Foresight
from qarnotfs.index.listing import Listing
from qarnotfs.store.base import ObjectInfo


def directory(prefix: str, count: int, number: int) -> Listing:
    keys = (f"{prefix}{each:05}" for each in range(count))
    return Listing(prefix, 0.0, [(key, ObjectInfo(key, 1, "e", 0)) for key in keys], number=number)


class Program:
    """One that looks at files; what is asked for is known when it looks at the next one."""

    def __init__(self) -> None:
        self.foresight, self.known = Foresight(), set[str]()
        self.waits = self.asked = self.calls = 0

    def look(
        self,
        listing: Listing,
        keys: Iterable[str],
        onward: Iterable[Listing] = (),
        *,
        comes: bool = False,
    ) -> None:
        for key in keys:
            if key in self.known and not self.foresight.is_far(key):
                continue
            self.waits += key not in self.known
            self.calls += 1
            names = self.foresight.wanted(listing, key, onward, comes=comes)
            new = {key, *names} - self.known
            self.asked += len(new)
            self.known |= new


def keys_of(listing: Listing) -> list[str]:
    return [name for name, _ in listing]


def test_a_long_directory_is_asked_for_ahead_and_once() -> None:
    listing, program = directory("d/", 3000, 1), Program()
    program.look(listing, keys_of(listing))
    assert program.waits <= 2
    assert program.asked == 3000


def test_the_first_look_asks_for_a_few() -> None:
    listing, program = directory("d/", 3000, 1), Program()
    program.look(listing, keys_of(listing)[:1])
    assert program.asked == 1 + AHEAD_FIRST


def test_a_look_far_behind_does_not_end_it() -> None:
    """``tail`` of the last one, and then ``ls -l``; or of one in the middle."""
    for far in (-1, 1500):
        listing, program = directory("d/", 3000, 1), Program()
        program.look(listing, [keys_of(listing)[far]])
        program.look(listing, keys_of(listing))
        assert program.waits <= 4


def test_looks_here_and_there_ask_for_little() -> None:
    listings = [directory(f"d{number:03}/", 300, number) for number in range(200)]
    program = Program()
    program.look(listings[0], keys_of(listings[0]))  # as one who looks at all
    before = program.asked
    for turn in range(150):
        listing = listings[1 + turn * 61 % 199]
        program.look(listing, [keys_of(listing)[1 + turn * 37 % 250]])
        program.look(listings[0], keys_of(listings[0])[250:0:-50])
    assert program.asked - before <= 150 * (1 + AHEAD_FIRST)


def test_files_that_are_known_already_do_not_end_it() -> None:
    """Of each page a few files are looked at before a program sees it."""
    listings = [directory(f"d{number:03}/", 8, number + 1) for number in range(100)]
    program = Program()
    for number, listing in enumerate(listings):
        for below in listings[number : number + 9]:
            program.known |= {key for key in keys_of(below) if key[-1] != "3"}
        program.look(listing, keys_of(listing), listings[number + 1 : number + 9], comes=number > 0)
    assert program.waits < 8


def test_it_goes_on_in_the_directories_that_follow() -> None:
    """Also where the keys of these are not behind its own."""
    for prefixes in (["a/", "b/", "c/", "d/", "e/", "f/"], ["a/", "a/0/", "a/0/0/", "a/1/"]):
        listings = [directory(prefix, 100, number) for number, prefix in enumerate(prefixes, 1)]
        program = Program()
        for number, listing in enumerate(listings):
            program.look(listing, keys_of(listing), listings[number + 1 :], comes=number > 0)
        assert program.waits <= 3
        assert program.asked == 100 * len(listings)
        assert program.calls <= 10


def test_what_is_asked_for_at_once_is_bounded() -> None:
    listings = [directory(f"d{number:03}/", 50, number + 1) for number in range(50)]
    foresight = Foresight()
    for number, listing in enumerate(listings):
        for key in keys_of(listing):
            assert len(foresight.wanted(listing, key, listings[number + 1 :], comes=True)) <= AHEAD

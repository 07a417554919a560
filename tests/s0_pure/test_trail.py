"""`core.trail`: the order of directories, and who goes along it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qarnotfs.core.trail import DIRECTORIES_MAX, NEAR, TRAILS_MAX, Descents, Trails, further, onward
from qarnotfs.index.listing import Listing, parent_of
from qarnotfs.store.base import ObjectInfo

PREFIXES = st.lists(st.sampled_from(["a/", "a-/", "b/", "/", "c.d/"]), min_size=1, max_size=4)
TREES = st.sets(PREFIXES.map("".join), max_size=12)


class Tree:
    """Directories, each with a file, of which some are not listed."""

    def __init__(self, directories: Iterable[str], hidden: Iterable[str] = ()) -> None:
        self.directories = {""}
        for each in directories:
            self.directories |= {each, *ancestors(each)}
        self.hidden = set(hidden)
        self.looks = 0

    def listed(self, prefix: str) -> Listing | None:
        self.looks += 1
        if prefix in self.hidden or prefix not in self.directories:
            return None
        names: dict[str, ObjectInfo | None] = {
            f"{prefix}file": ObjectInfo(f"{prefix}file", 1, "e", 0)
        }
        names |= {
            each: None for each in self.directories if each and parent_of(each[:-1]) == prefix
        }
        return Listing(prefix, 0.0, sorted(names.items()))

    def parent(self, prefix: str) -> Listing:
        listing = self.listed(parent_of(prefix[:-1]))
        assert listing is not None
        return listing


def ancestors(prefix: str) -> set[str]:
    found = set[str]()
    while prefix:
        prefix = parent_of(prefix[:-1])
        found.add(prefix)
    return found


@given(TREES, st.data())
def test_onward_is_the_order_of_the_names(directories: set[str], data: st.DataObject) -> None:
    tree = Tree(directories)
    prefix = data.draw(st.sampled_from(sorted(tree.directories)))
    depth_max = data.draw(st.integers(prefix.count("/"), 6))
    top = data.draw(st.sampled_from(sorted({prefix, *ancestors(prefix)})))
    tree.hidden = data.draw(st.sets(st.sampled_from(sorted(tree.directories)))) - ancestors(prefix)
    expected = [
        (each, each not in tree.hidden)
        for each in sorted(tree.directories)
        if each > prefix
        and each.startswith(top)
        and each.count("/") <= depth_max
        and not ancestors(each) & tree.hidden
    ]
    found = [(name, here is not None) for name, here in onward(prefix, tree.listed, top, depth_max)]
    assert found == expected


def test_onward_ends_where_nothing_is_known() -> None:
    tree = Tree(["a/b/", "a/c/", "d/"], hidden=[""])
    assert [name for name, _ in onward("a/b/", tree.listed)] == ["a/c/"]
    assert not list(onward("x/", tree.listed))


# --- files ------------------------------------------------------------------------------------


def at(trails: Trails, prefix: str, tree: Tree) -> list[str]:
    """Where a program will look at files that does so here."""
    return [listing.prefix for listing in further(trails.at(prefix, tree.listed), tree.listed)]


FLAT = Tree([f"d{number:03}/" for number in range(100)])


def test_who_comes_from_one_directory_to_the_next_goes_on() -> None:
    trails = Trails()
    assert not at(trails, "d000/", FLAT)
    assert at(trails, "d001/", FLAT) == [f"d{n:03}/" for n in range(2, 2 + NEAR)]
    assert at(trails, "d001/", FLAT)  # still
    assert at(trails, "d003/", FLAT)[0] == "d004/"  # d002 had no files for it
    assert not at(trails, "d050/", FLAT)
    assert not at(trails, "d049/", FLAT)
    assert at(trails, "d051/", FLAT)


def test_files_beside_a_directory_do_not_end_its_trail() -> None:
    tree, trails = Tree(["p/a/", "p/b/", "p/c/"]), Trails()
    at(trails, "p/a/", tree)
    at(trails, "p/", tree)
    assert at(trails, "p/b/", tree) == ["p/c/"]
    assert at(trails, "p/", tree) == ["p/c/"]


def test_it_goes_no_further_than_it_has_gone_before() -> None:
    """Who reads one tree does not read the one beside it."""
    tree, trails = Tree([f"p{p}/q{q}/" for p in range(4) for q in range(3)]), Trails()
    ways = [at(trails, f"p0/q{q}/", tree) for q in range(3)]
    assert ways == [[], ["p0/q2/"], []]
    assert at(trails, "p1/q0/", tree)[:4] == ["p1/q1/", "p1/q2/", "p2/", "p2/q0/"]
    assert not at(trails, "p3/q2/", tree)


def test_it_goes_no_further_than_to_what_is_not_listed() -> None:
    tree, trails = Tree(FLAT.directories, hidden=["d004/"]), Trails()
    at(trails, "d000/", tree)
    assert at(trails, "d001/", tree) == ["d002/", "d003/"]


def test_directories_below_in_which_it_never_looks_are_left_alone() -> None:
    """Not those of ``*/*.txt``, however many there are."""
    for count in (3, 20):
        tree = Tree([f"d{d:02}/s{s:02}/" for d in range(9) for s in range(count)])
        trails = Trails()
        at(trails, "d00/", tree)
        for number in range(1, 8):
            assert at(trails, f"d{number:02}/", tree)[0] == f"d{number + 1:02}/"


def test_two_programs_do_not_end_each_others_trails() -> None:
    trails = Trails()
    for number in range(20):
        ahead = at(trails, f"d{number:03}/", FLAT), at(trails, f"d{number + 50:03}/", FLAT)
        assert [len(each) for each in ahead] == ([NEAR, NEAR] if number else [0, 0])


def test_jumping_about_costs_a_look_or_two() -> None:
    tree, trails = Tree(FLAT.directories), Trails()
    tree.looks = 0
    for number in range(100):
        assert not at(trails, f"d{number * 37 % 100:03}/", tree)
    assert tree.looks < 100 * TRAILS_MAX


# --- directories ------------------------------------------------------------------------------


def entered_in_order(tree: Tree, order: Iterable[str], steps: int = 0) -> list[str]:
    """Those that were waited for. What is asked for is listed ``steps`` later, or during a wait."""
    descents, waited, under_way = Descents(), list[str](), list[list[str]]()
    for prefix in order:
        if prefix in tree.hidden:
            waited.append(prefix)
            tree.hidden.difference_update(*under_way)
        asked = descents.entered(tree.parent(prefix), prefix, tree.listed)
        assert len(asked) <= DIRECTORIES_MAX
        under_way.append(asked)
        late = under_way.pop(0) if len(under_way) > steps else []
        tree.hidden -= {prefix, *late}
    return waited


def test_one_who_goes_on_waits_for_the_first_few() -> None:
    tree = Tree(FLAT.directories, hidden=FLAT.directories - {""})
    assert entered_in_order(tree, sorted(FLAT.directories - {""})) == ["d000/", "d001/"]


def test_what_is_still_on_its_way_is_no_surprise() -> None:
    tree, descents = Tree(FLAT.directories, FLAT.directories - {""}), Descents()
    root = tree.parent("d000/")
    asked = [descents.entered(root, f"d{number:03}/", tree.listed) for number in range(8)]
    assert max(name for some in asked for name in some) > "d010/"


def test_the_next_parent_is_looked_into_before_the_program_comes_there() -> None:
    names = [f"p{p:02}/q{q}/" for p in range(30) for q in range(5)]
    tree = Tree(names, names)
    order = [each for name in names for each in (parent_of(name[:-1]), name)]
    assert entered_in_order(tree, order) == ["p00/q0/", "p00/q1/", "p01/q0/"]


def test_the_directories_beside_a_tree_are_left_alone() -> None:
    names = [f"p/q{q}/" for q in range(5)]
    tree = Tree([*names, "r/"], [*names, "r/"])
    assert entered_in_order(tree, ["p/", *names]) == names[:2]
    assert "r/" in tree.hidden


def test_directories_with_one_directory_each_are_a_way_too() -> None:
    names = [name for p in range(40) for name in (f"p{p:02}/", f"p{p:02}/q/")]
    tree = Tree(names, names)
    assert len(entered_in_order(tree, names)) < 8


def test_the_level_above_is_not_forgotten_below() -> None:
    """``du`` asks for all that is in a directory, and then goes into each."""
    tops = [f"p{p:03}/" for p in range(100)]
    names = [f"{top}q{q}/" for top in tops for q in range(10)]
    tree = Tree(names, [*names, *tops])
    assert len(entered_in_order(tree, [*tops, *names])) < len(names) / 8


def test_directories_nobody_foresaw_are_no_lead() -> None:
    """``find`` goes into each that it comes to; the server is slow."""
    names = [f"p{p:03}/" + below for p in range(300) for below in ("", "q0/", "q1/", "q2/")]
    tree = Tree(names, names)
    assert len(entered_in_order(tree, names, 20)) < 80


def test_what_is_deeper_is_not_listed_for_who_looks_at_directories() -> None:
    names = [f"p{p}/" for p in range(20)]
    tree = Tree([f"{name}q/" for name in names], hidden=[f"{name}q/" for name in names])
    descents = Descents()
    assert not any(descents.entered(tree.parent(name), name, tree.listed) for name in names)


@pytest.mark.parametrize("order", [[5, 9, 20, 3], [9, 8, 7, 6], [4, 4, 4]])
def test_other_orders_cost_nothing(order: list[int]) -> None:
    tree = Tree(FLAT.directories, hidden=FLAT.directories - {""})
    descents, root = Descents(), tree.parent("d000/")
    for number in order:
        assert not descents.entered(root, f"d{number:03}/", tree.listed)


def test_nothing_is_kept_that_the_index_has_dropped() -> None:
    descents, known = Descents(), {name: FLAT.listed(name) for name in FLAT.directories}
    for number in range(40):
        descents.entered(FLAT.parent("d000/"), f"d{number:03}/", known.get)
    kept = [weakref.ref(listing) for listing in known.values() if listing]
    known.clear()
    gc.collect()
    assert not [each for each in kept if each() is not None]


def test_a_surprise_ends_it_and_it_begins_anew() -> None:
    tree, descents = Tree(FLAT.directories, FLAT.directories - {""}), Descents()
    root = tree.parent("d000/")
    for number in range(10):
        descents.entered(root, f"d{number:03}/", tree.listed)
    assert not descents.entered(root, "d050/", tree.listed)
    assert descents.entered(root, "d051/", tree.listed) == ["d052/"]


def test_a_second_walk_is_as_good_as_the_first() -> None:
    """What was listed may be too old by then."""
    hidden = FLAT.directories - {""}
    tree, descents = Tree(FLAT.directories), Descents()
    for _ in range(2):
        tree.hidden, asked = set(hidden), list[str]()
        for prefix in sorted(hidden):
            asked += descents.entered(tree.parent(prefix), prefix, tree.listed)
            tree.hidden -= {prefix, *asked}
        assert not tree.hidden
        assert len(asked) >= len(hidden) - 2


def test_looking_ahead_costs_little_where_all_is_listed() -> None:
    tree, descents = Tree(FLAT.directories), Descents()
    root = tree.parent("d000/")
    tree.looks = 0
    for number in range(100):
        assert not descents.entered(root, f"d{number:03}/", tree.listed)
    assert tree.looks < 100 * 6

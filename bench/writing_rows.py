"""The rows that write: each measured as returned, and as durable in the bucket."""

from __future__ import annotations

from collections.abc import Iterator

from bench import data
from bench.peers import AWSCRT, DISK, PASSTHROUGH
from bench.rows import DATA, MNT, NEW, READERS, SMALL_BYTES, Effect, Scenario, Sizes, Step

FILE, TREE, MOVED = f"{NEW}.bin", NEW, f"{NEW}-moved"
# What git writes as it finds the file system, or with the time of day in it.
GITS_OWN = (".git/config", ".git/index", ".git/logs/")


def scenarios(sizes: Sizes) -> Iterator[Scenario]:
    """All there are, in the order of the page."""
    limits = (PASSTHROUGH, DISK, AWSCRT)
    for mib in sizes.file_mib:
        yield Scenario("write", (_sequential(mib),), limits)
    yield Scenario("write4", (_writers(sizes),), limits)
    yield Scenario("create", tuple(_create(sizes)), limits)
    yield Scenario("rsync", tuple(_rsync(sizes)), (DISK,))
    yield Scenario("clone", (_clone(sizes),), (DISK,))
    yield Scenario("untar", (_untar(sizes),), (DISK,))
    before = ((data.base(sizes.change_mib), FILE),)
    yield Scenario("change", (_change(sizes),), (DISK,), before)
    renamed = data.renamed(sizes.renamed_files)
    yield Scenario("rename", (_rename(sizes),), (DISK, AWSCRT), ((renamed, TREE),))
    yield Scenario("mixed", (_mixed(sizes),), (DISK,))
    yield Scenario("stat", (_stat(sizes),))


def _sequential(mib: int) -> Step:
    source = data.big(mib)
    args, effect = (DATA + source, MNT + FILE), Effect(((FILE, source),))
    return Step(f"write {mib} MiB", "write", mib, "write", args, mib << 20, effect)


def _writers(sizes: Sizes) -> Step:
    mib = data.part_mib(sizes)
    pairs = [(f"{NEW}-{number}.bin", data.part(mib, number)) for number in range(READERS)]
    args = tuple(word for key, source in pairs for word in (DATA + source, MNT + key))
    row, effect = f"write {READERS} x {mib} MiB at once", Effect(tuple(pairs))
    return Step(row, "write 4", mib, "write", args, READERS * (mib << 20), effect)


def _create(sizes: Sizes) -> Iterator[Step]:
    count, made = sizes.small_files, Effect(((TREE, data.SMALL),))
    both, args = (DATA + data.SMALL, MNT + TREE), (MNT + TREE,)
    yield Step(f"`cp -r` of {count} files of 4 KiB", "create", count, "cp", both, 0, made)
    row = f"these {count}, by a new client"
    seen = count * SMALL_BYTES
    yield Step(f"{row}: read", "read back", count, "tree", args, seen, elsewhere=True)
    yield Step(f"{row}: `ls -lR`", "ls -lR cold", count, "ls-lR", args, count, elsewhere=True)
    row = f"{row}: `rm -rf`"
    yield Step(row, "rm -rf", count, "rm", args, 0, Effect(gone=(TREE,)), elsewhere=True)


def _rsync(sizes: Sizes) -> Iterator[Step]:
    count, effect = sizes.small_files, Effect(((TREE, data.SMALL),))
    args, row = (f"{DATA}{data.SMALL}/", f"{MNT}{TREE}/"), f"`rsync -a` of {count} files of 4 KiB"
    yield Step(f"{row}, first", "rsync first", count, "rsync", args, 0, effect)
    yield Step(f"{row}, again", "rsync again", count, "rsync", args, 0, effect)
    row = f"{row}, by a new client"
    yield Step(row, "rsync elsewhere", count, "rsync", args, 0, effect, elsewhere=True)


def _clone(sizes: Sizes) -> Step:
    args = DATA + data.REPOSITORY, MNT + TREE
    effect = Effect(((TREE, data.CLONE),), loose=GITS_OWN)
    row = f"`git clone` of {sizes.source_files} files"
    return Step(row, "clone", sizes.source_files, "clone", args, 0, effect)


def _untar(sizes: Sizes) -> Step:
    args, effect = (DATA + data.ARCHIVE, MNT), Effect(((TREE, data.SOURCE),))
    row = f"`tar -x` of {sizes.source_files} files"
    return Step(row, "untar", sizes.source_files, "untar", args, 0, effect)


def _change(sizes: Sizes) -> Step:
    mib = sizes.change_mib
    effect = Effect(((FILE, data.changed(mib)),), replaces=True)
    row, args = f"change 4 KiB in {mib} MiB", (DATA + data.changed(mib), MNT + FILE)
    return Step(row, "change", mib, "change", args, data.CHANGE_BYTES, effect)


def _rename(sizes: Sizes) -> Step:
    count = sizes.renamed_files
    effect = Effect(((MOVED, data.renamed(count)),), gone=(f"{TREE}/",))
    args = MNT + TREE, MNT + MOVED
    return Step(f"rename a directory of {count}", "rename", count, "mv", args, 0, effect)


def _mixed(sizes: Sizes) -> Step:
    mib, count = sizes.change_mib, sizes.small_files
    source = data.base(mib)
    args = DATA + source, MNT + FILE, MNT + data.SMALL
    row = f"write {mib} MiB while {count} files of 4 KiB are read"
    seen, effect = (mib << 20) + count * SMALL_BYTES, Effect(((FILE, source),))
    return Step(row, "mixed", mib, "mixed", args, seen, effect)


def _stat(sizes: Sizes) -> Step:
    mib = sizes.file_mib[0]
    source, probed = data.big(mib), f"{MNT}{data.SMALL}/{data.small(0)}"
    row, args = f"`stat` while {mib} MiB are uploaded, p99", (DATA + source, MNT + FILE, probed)
    effect = Effect(((FILE, source),))
    return Step(row, "stat", mib, "stat", args, mib << 20, effect, lasting=True)

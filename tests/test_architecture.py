"""The house rules that a program can check: floors, fences, sizes, nothing dead or unexplained.

The plan is the data at the top. Each test lists everything that breaks its rule.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "qarnotfs"

# Rooms by floor. A room imports from lower floors and from itself, nothing else.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "figures", "checksums"),
    ("store", "views"),
    ("bridge", "connection", "syncplan"),
    ("index",),
    ("cache", "writeback"),
    ("core",),
    ("operations", "bucket", "control"),
    ("session",),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# The package itself is only a door to the public interface.
PUBLIC = {"bucket", "connection", "views", "errors"}

# Foreign libraries, and the only modules that may know them (with everything below them).
AWS = {"connection", "store.s3"}
FENCES: dict[str, set[str]] = {
    "pyfuse3": {"session.kernel", "operations"},
    "boto3": AWS,
    "botocore": AWS,
    "awscrt": AWS | {"checksums"},
    "cachetools": {"index"},
    "prometheus_client": {"session.metrics"},
    "trio": {
        "bridge",
        "index",
        "cache.reader",
        "cache.flight",
        "cache.keeper",
        "cache.runway",
        "cache.warming",
        "writeback.uploader",
        "writeback.deleting",
        "writeback.sending",
        "writeback.multipart",
        "writeback.streaming",
        "writeback.budget",
        "writeback.looks",
        "core.writable",
        "core.moving",
        "core.ends",
        "operations",
        "session",
        "control",
    },
}

# Decisions without I/O, clock or event loop: everything they need is an argument.
PURE = {
    "figures",
    "writeback.tally",
    "session.pace",
    "views",
    "syncplan",
    "cache.blocks",
    "cache.ledger",
    "cache.stats",
    "writeback.plan",
    "writeback.extents",
    "writeback.overlay",
    "index.changes",
    "index.versions",
    "index.listing",
    "index.flat",
    "index.spans",
    "core.names",
    "core.explain",
    "core.attributes",
    "core.dates",
    "core.tree",
    "core.walk",
    "core.trail",
    "core.foresight",
    "core.kinds",
    "core.inodes",
    "core.handles",
}
IMPURE = {
    *("asyncio", "concurrent", "http", "io", "logging", "multiprocessing", "os", "pathlib"),
    *("random", "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl"),
    *("subprocess", "tempfile", "threading", "time", "trio", "urllib.request", "urllib3", "uuid"),
}
IMPURE_CALLS = {"open", "print", "input", "datetime.now", "datetime.today", "date.today"}

# Where the program begins, and what lives without being reached from there.
ROOTS = {
    PACKAGE,
    f"{PACKAGE}.cli",
    f"{PACKAGE}.__main__",
    f"{PACKAGE}.cli.mounthelper",  # a console script of its own
}
NOT_REACHED = {"store.memory": "the model of the store, which the tests hold against the real one"}

LINES_MAX = {PACKAGE: 350, "tests": 400, "bench": 350, "docs": 350}
FUNCTION_LINES_MAX = 60

# Waiting for a condition has a deadline and is written once; see tests/support.py.
MAY_SLEEP = {"tests.rgw", "tests.support"}


@dataclass(frozen=True)
class Module:
    """One parsed source file; ``name`` is dotted and complete."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def place(self) -> str:
        """The name inside the package, ``""`` for the package itself."""
        return self.name.removeprefix(PACKAGE).removeprefix(".")

    @property
    def room(self) -> str:
        return self.place.split(".")[0]

    def is_within(self, places: set[str]) -> bool:
        return any(self.place == place or self.place.startswith(place + ".") for place in places)

    def at(self, line: int, complaint: str) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}: {complaint}"


@cache
def modules(top: str) -> dict[str, Module]:
    found = {}
    for path in sorted((ROOT / top).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text()
        found[name] = Module(name, path, text, ast.parse(text))
    return found


def everything() -> list[Module]:
    return [module for top in LINES_MAX for module in modules(top).values()]


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, anywhere in the file.

    ``from a import b`` is ``a.b`` when that is a module of ours, else ``a``.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield node.lineno, inner if inner in modules(PACKAGE) else origin


def our_imports(module: Module) -> Iterator[tuple[int, Module]]:
    for line, name in imports(module):
        if name in modules(PACKAGE):
            yield line, modules(PACKAGE)[name]


def report(complaints: Iterator[str]) -> None:
    found = sorted(set(complaints))
    assert not found, "\n".join(["", *found])


# --- the plan --------------------------------------------------------------------------


def test_every_room_has_a_floor() -> None:
    report(
        module.at(1, f"room {module.room!r} is not in the plan")
        for module in modules(PACKAGE).values()
        if module.room and module.room not in FLOOR_OF
    )


def test_imports_point_down() -> None:
    def climbing() -> Iterator[str]:
        for module in modules(PACKAGE).values():
            for line, other in our_imports(module):
                if not may_import(module, other):
                    yield module.at(line, f"{module.place} may not import {other.name}")

    report(climbing())


def may_import(module: Module, other: Module) -> bool:
    if not module.room:
        return other.room in PUBLIC
    if not other.room:
        return module.room in {"cli", "__main__"}  # for the version
    if module.room == other.room:
        return True
    return FLOOR_OF.get(other.room, 99) < FLOOR_OF.get(module.room, 99)


def test_imports_are_absolute() -> None:
    report(
        module.at(line, f"relative import of {name}")
        for module in everything()
        for line, name in imports(module)
        if name.startswith(".")
    )


def test_fences() -> None:
    report(
        module.at(line, f"{name.split('.')[0]} is fenced off from {module.place}")
        for module in modules(PACKAGE).values()
        for line, name in imports(module)
        if not module.is_within(FENCES.get(name.split(".")[0], {module.place}))
    )


def test_pure_rooms_are_pure() -> None:
    def impure(module: Module) -> Iterator[str]:
        for line, name in imports(module):
            if {name, name.split(".")[0]} & IMPURE:
                yield module.at(line, f"{module.place} is pure and may not import {name}")
        for line, name in calls(module):
            if name in IMPURE_CALLS:
                yield module.at(line, f"{module.place} is pure and may not call {name}()")

    report(line for m in modules(PACKAGE).values() if m.is_within(PURE) for line in impure(m))


def calls(module: Module) -> Iterator[tuple[int, str]]:
    """Line and name, as written, of every function called by a plain or dotted name."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            yield node.lineno, ast.unparse(node.func)


def test_no_dead_file() -> None:
    found = modules(PACKAGE)
    alive: set[str] = set()
    queue = [name for name in ROOTS if name in found]
    queue += [f"{PACKAGE}.{place}" for place in NOT_REACHED]
    while queue:
        name = queue.pop()
        if name in alive or name not in found:
            continue
        alive.add(name)
        queue += [other.name for _, other in our_imports(found[name])]
        queue.append(name.rpartition(".")[0])  # importing a module runs its package
    report(found[name].at(1, "nothing imports this") for name in found.keys() - alive)


# --- the writing -------------------------------------------------------------------------


def test_files_are_short() -> None:
    report(
        module.at(1, f"{count} lines, {LINES_MAX[module.name.split('.')[0]]} is the limit")
        for module in everything()
        if (count := module.text.count("\n")) > LINES_MAX[module.name.split(".")[0]]
    )


def test_functions_are_short() -> None:
    report(
        module.at(
            node.lineno, f"{node.name}() has {lines} lines, {FUNCTION_LINES_MAX} is the limit"
        )
        for module in everything()
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    )


def test_every_file_says_what_it_is() -> None:
    report(
        module.at(1, "no docstring")
        for module in everything()
        if not ast.get_docstring(module.tree)
    )


def test_only_the_command_line_prints() -> None:
    report(
        module.at(line, "print() outside of cli")
        for module in modules(PACKAGE).values()
        if module.room != "cli"
        for line, name in calls(module)
        if name == "print"
    )


def test_tests_do_not_sleep() -> None:
    report(
        module.at(line, f"{name}(): wait for a condition instead, with support.eventually")
        for module in modules("tests").values()
        if module.name not in MAY_SLEEP
        for line, name in calls(module)
        if name in {"time.sleep", "sleep"}
    )


def test_test_files_have_names_of_their_own() -> None:
    seen: dict[str, Module] = {}
    report(
        module.at(1, f"same name as {seen[module.path.name].path.relative_to(ROOT)}")
        for module in modules("tests").values()
        if module.path.name.startswith("test_")
        and seen.setdefault(module.path.name, module) is not module
    )


def test_comments_promise_and_hide_nothing() -> None:
    def suspicious(module: Module) -> Iterator[str]:
        for line, comment in comments(module):
            if promise := re.search(r"\b(TODO|FIXME|XXX|HACK)\b", comment):
                yield module.at(line, f"{promise[0]}: do it or file it")
            if "type: ignore" in comment and not re.search(r"ignore\[[\w, -]+\]\s+# \w", comment):
                yield module.at(line, "type: ignore needs [its-code] and  # a reason")

    report(line for module in everything() for line in suspicious(module))


def comments(module: Module) -> Iterator[tuple[int, str]]:
    if "type: ignore" in module.text or re.search("TODO|FIXME|XXX|HACK", module.text):
        for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string

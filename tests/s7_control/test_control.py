"""The control socket: questions, errors, last words, and who may ask."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from qarnotfs import control
from qarnotfs.control import Conversation, Handler
from qarnotfs.errors import NoDaemon, QarnotfsError, UsageError
from tests.support import eventually

Answer = dict[str, object]
MOUNTPOINT = Path("/mnt/of a test")


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of this test's; short, as a socket's path has to be."""
    with tempfile.TemporaryDirectory(prefix="qfs-") as folder:
        monkeypatch.setenv("QARNOTFS_RUNTIME_DIR", folder)
        yield Path(folder)


async def status(args: Answer) -> Answer:
    return {"mountpoint": str(MOUNTPOINT), "pending_files": 3}


async def echo(args: Answer) -> Answer:
    return args


async def busy(args: Answer) -> Answer:
    error = QarnotfsError("It is in use.")
    error.errno, error.exit_code = errno.EBUSY, 7
    raise error


async def broken(args: Answer) -> Answer:
    raise ZeroDivisionError("a secret detail")


async def stuck(args: Answer) -> Answer:
    await trio.sleep_forever()
    raise AssertionError("unreachable")


async def unspeakable(args: Answer) -> Answer:
    return {"no JSON": object()}


HANDLERS: dict[str, Handler] = {
    "status": status,
    "echo": echo,
    "busy": busy,
    "broken": broken,
    "stuck": stuck,
    "unspeakable": unspeakable,
}


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nobody in this process can open anything."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def while_served(client: Callable[[Path, Callable[[], None]], None]) -> Path:
    """Run a blocking client beside a server; it gets the socket and how to end the server."""
    path = control.socket_path(MOUNTPOINT)

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                await control.serve(path, HANDLERS, task_status=task_status)

            await nursery.start(serve)

            def end() -> None:
                trio.from_thread.run_sync(nursery.cancel_scope.cancel)

            await trio.to_thread.run_sync(client, path, end)
            nursery.cancel_scope.cancel()

    trio.run(main)
    return path


def test_a_question_is_answered_and_the_socket_removed() -> None:
    def client(path: Path, end: Callable[[], None]) -> None:
        assert control.request(path, "echo", 5, text="ä\n", number=2) == {
            "text": "ä\n",
            "number": 2,
        }

    assert not while_served(client).exists()


def test_one_connection_carries_many_questions() -> None:
    def client(path: Path, end: Callable[[], None]) -> None:
        with Conversation(path) as talk:
            assert [talk.ask("echo", n=n) for n in range(50)] == [{"n": n} for n in range(50)]

    while_served(client)


def test_an_error_travels_with_its_sentence_errno_and_exit_code() -> None:
    def client(path: Path, end: Callable[[], None]) -> None:
        with pytest.raises(QarnotfsError, match=r"^It is in use\.$") as caught:
            control.request(path, "busy")
        assert (caught.value.errno, caught.value.exit_code) == (errno.EBUSY, 7)

    while_served(client)


def test_a_defect_is_logged_and_neither_told_nor_fatal(caplog: pytest.LogCaptureFixture) -> None:
    def client(path: Path, end: Callable[[], None]) -> None:
        with pytest.raises(QarnotfsError, match="log says why") as caught:
            control.request(path, "broken")
        assert "secret" not in str(caught.value)
        assert control.request(path, "echo", a=1) == {"a": 1}

    while_served(client)
    assert "ZeroDivisionError" in caplog.text


def test_a_defect_ends_one_conversation_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a command answered cannot be sent; and there are no last words."""

    def client(path: Path, end: Callable[[], None]) -> None:
        with Conversation(path) as other:
            assert other.ask("echo", a=1) == {"a": 1}
            with pytest.raises(NoDaemon):
                control.request(path, "unspeakable")
            assert other.ask("echo", a=2) == {"a": 2}
            monkeypatch.setitem(HANDLERS, "status", broken)
            end()
            with pytest.raises(NoDaemon):
                other.receive(5)

    while_served(client)
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


def test_who_asks_while_there_are_no_descriptors_is_answered_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qarnotfs.control.server.REFUSED_SEC", 0.01)

    def client(path: Path, end: Callable[[], None]) -> None:
        with socket.socket(socket.AF_UNIX) as plain:
            with no_descriptors():
                plain.connect(os.fspath(path))
                eventually(lambda: os.strerror(errno.EMFILE) in caplog.text)
            plain.sendall(b'{"command": "echo", "args": {"a": 1}}\n')
            assert plain.recv(4096) == b'{"ok": {"a": 1}}\n'

    while_served(client)


@pytest.mark.parametrize(
    "line",
    [
        *(b"\n", b"[]\n", b"{}\n", b'{"command": "rm"}\n', b"\xff\n", b'{"command": []}\n'),
        b"[" * 60_000 + b"\n",
    ],
    ids=lambda line: line[:20],
)
def test_nonsense_is_refused(line: bytes) -> None:
    def client(path: Path, end: Callable[[], None]) -> None:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(os.fspath(path))
            plain.sendall(line)
            assert b"does not know that command" in plain.recv(4096)
        assert control.request(path, "echo", a=1) == {"a": 1}

    while_served(client)


def test_an_endless_line_ends_the_connection() -> None:
    def client(path: Path, end: Callable[[], None]) -> None:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(os.fspath(path))
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                plain.sendall(b"x" * (10 << 20))

    while_served(client)


def test_a_slow_answer_delays_nobody_else() -> None:
    def client(path: Path, end: Callable[[], None]) -> None:
        with Conversation(path) as waiting:
            waiting.send("stuck")
            assert control.request(path, "status")["pending_files"] == 3
            with pytest.raises(TimeoutError):
                waiting.receive(0.01)

    while_served(client)


def test_no_answer_in_time_is_an_error() -> None:
    def client(path: Path, end: Callable[[], None]) -> None:
        with pytest.raises(QarnotfsError, match=r"did not answer 'stuck' within 0\.05 s"):
            control.request(path, "stuck", 0.05)

    while_served(client)


@pytest.mark.parametrize("asked", ["stuck", "status"])
def test_the_last_words_are_the_status(asked: str) -> None:
    """Also for a client that was waiting for something else."""

    def client(path: Path, end: Callable[[], None]) -> None:
        with Conversation(path) as talk:
            if asked == "status":
                talk.ask("status")
            else:
                talk.send("stuck")
            end()
            with pytest.raises(NoDaemon):
                talk.receive(5)
            assert talk.final == {"mountpoint": str(MOUNTPOINT), "pending_files": 3}
            with pytest.raises(NoDaemon):
                talk.ask("status")

    while_served(client)


def test_only_the_owner_finds_the_socket(runtime: Path) -> None:
    runtime.chmod(0o755)

    def client(path: Path, end: Callable[[], None]) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(runtime.stat().st_mode) == 0o700

    while_served(client)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become someone else")
def test_s08_someone_else_is_refused_even_where_the_modes_let_him(runtime: Path) -> None:
    ask = (
        "import os, socket, sys; os.setuid(65534);"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "print(s.recv(999).decode())"
    )

    def client(path: Path, end: Callable[[], None]) -> None:
        runtime.chmod(0o755)
        path.chmod(0o666)
        command = [sys.executable, "-I", "-c", ask, os.fspath(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Only its owner" in said.stdout

    while_served(client)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a directory away")
def test_s07_a_runtime_directory_of_someone_else_is_refused(runtime: Path) -> None:
    os.chown(runtime, 65534, 65534)
    with pytest.raises(UsageError, match="belongs to someone else"):
        control.runtime_dir()


def test_s07_a_runtime_directory_that_is_a_link_is_refused(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = runtime / "link"
    link.symlink_to("/tmp")
    monkeypatch.setenv("QARNOTFS_RUNTIME_DIR", str(link))
    with pytest.raises(UsageError):
        control.runtime_dir()


def test_a_dead_daemons_socket_is_replaced() -> None:
    leave_a_dead_socket()
    while_served(lambda path, end: None)


def test_a_second_daemon_for_a_mountpoint_is_refused() -> None:
    def client(path: Path, end: Callable[[], None]) -> None:
        with pytest.raises(UsageError, match="still serves"):
            trio.run(control.serve, path, HANDLERS)
        assert control.request(path, "status")["pending_files"] == 3

    while_served(client)


def leave_a_dead_socket() -> Path:
    path = control.socket_path(MOUNTPOINT)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    return path


def test_survey_finds_the_living_and_buries_the_dead() -> None:
    dead = leave_a_dead_socket()
    assert control.live_mounts() == []
    assert not dead.exists()

    def client(path: Path, end: Callable[[], None]) -> None:
        assert control.live_mounts() == [MOUNTPOINT]

    while_served(client)


def test_a_daemon_that_hangs_is_not_taken_for_a_dead_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qarnotfs.control.client.SURVEY_SEC", 0.05)
    path = control.socket_path(MOUNTPOINT)
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(os.fspath(path))
        hanging.listen(1)
        [state] = [s for s in control.survey() if s.mountpoint == path]
    assert state.listening
    assert state.status is None
    assert path.exists()


def test_the_end_of_the_process_is_waited_for() -> None:
    """Last words come before the end, and only the end closes files."""
    program = (
        "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]);"
        "s.listen(); print('up', flush=True); sys.stdin.read()"
    )
    path = control.socket_path(MOUNTPOINT)
    with subprocess.Popen(
        [sys.executable, "-c", program, os.fspath(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        with Conversation(path) as talk:
            talk.wait_process(0.01)
            assert process.poll() is None
            process.stdin.close()
            talk.wait_process(20)
            assert process.wait(0.5) == 0


def test_a_path_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "folder").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    spellings = ["real", "link", "folder/link", "real/", "./x/../real", str(real)]
    assert {control.canonical(Path(spelling)) for spelling in spellings} == {real.resolve()}
    assert control.socket_path(Path("link")) == control.socket_path(real)


def test_a_loop_of_links_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UsageError, match="Too many symbolic links"):
        control.canonical(tmp_path / "a")


def test_the_mount_table_reads_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 0:5 / / rw - ext4 /dev/sda rw\n"
        r"99 22 0:44 / /mnt/a\040b\134c rw,nosuid shared:1 master:2 - fuse.qarnotfs my\040data"
        " rw,user_id=1000,group_id=1000\n"
    )
    monkeypatch.setattr("qarnotfs.control.mounttable.MOUNTINFO", table)
    entry = control.mount_entry(Path(r"/mnt/a b\c"))
    assert entry == control.MountEntry(Path(r"/mnt/a b\c"), "fuse.qarnotfs", "my data", 1000)
    assert control.mount_entry(Path("/mnt")) is None

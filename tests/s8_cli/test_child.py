"""The command of ``qarnotfs run``: its exit code is ours, our signals are its."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXECUTE = (
    "import os, sys; from qarnotfs.cli.child import execute; "
    "sys.exit(execute(sys.argv[1:], os.environ))"
)


def started(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", EXECUTE, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(*command: str) -> tuple[int, str, str]:
    with started(*command) as process:
        out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_its_exit_code_is_ours(code: int) -> None:
    assert ended("sh", "-c", f"echo out; exit {code}") == (code, "out\n", "")


def test_a_command_ended_by_a_signal() -> None:
    assert ended("sh", "-c", "kill -KILL $$")[0] == 128 + signal.SIGKILL


def test_no_such_command() -> None:
    code, _, said = ended("no-such-command")
    assert (code, said) == (127, "qarnotfs: no-such-command: command not found\n")


def test_a_command_that_cannot_be_executed(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a program")
    assert ended(str(tmp_path / "text"))[0] == 126


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH],
)
def test_our_signals_are_its(number: signal.Signals) -> None:
    # Blocked, it waits to be fetched; a handler may run before the pause that it is to end.
    script = f"import signal, sys; own = {{{int(number)}}};"
    script += "signal.pthread_sigmask(signal.SIG_BLOCK, own); print('up', flush=True);"
    script += "sys.exit(9 if signal.sigtimedwait(own, 20) else 1)"
    with started(sys.executable, "-c", script) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(20) == 9


def test_what_the_terminal_sends_comes_once(tmp_path: Path) -> None:
    """The terminal tells everyone in front of it; forwarded, the command would be told twice."""
    counter = (
        "import signal, sys, time; told = [];"
        "signal.signal(signal.SIGINT, lambda *_: told.append(1));"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(len(told)));"
        "print('up', flush=True)\n"
        "while True: time.sleep(0.1)"  # one before a pause() would be slept through
    )
    main, terminal = os.openpty()
    with subprocess.Popen(
        [
            "setsid",
            "--ctty",
            "--wait",
            sys.executable,
            "-c",
            EXECUTE,
            sys.executable,
            "-c",
            counter,
        ],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        assert b"up" in os.read(main, 100)
        os.write(main, b"\x03")
        while b"^C" not in os.read(main, 100):
            pass
        [child] = children_of(process.pid)
        os.kill(child, signal.SIGTERM)
        assert process.wait(20) == 1
    os.close(main)


def children_of(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_command_starts_with_no_signal_blocked() -> None:
    blocked = "grep SigBlk /proc/self/status"
    assert ended("sh", "-c", blocked)[1].split() == ["SigBlk:", "0" * 16]


ORPHAN = """
pid=$(sh -c 'true >/dev/null & echo $!')
while grep -qs "State:.[RSD]" /proc/$pid/status; do :; done
exit 3
"""


def test_orphans_are_collected() -> None:
    """As in a container, where they become children of its first process."""
    adopt = (
        "import ctypes, os, sys; assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0\n"
        "from qarnotfs.cli.child import execute\n"
        "code = execute(['sh', '-c', sys.argv[1]], os.environ)\n"
        "try: os.waitpid(-1, os.WNOHANG)\n"
        "except ChildProcessError: sys.exit(code)\n"
    )  # 36: PR_SET_CHILD_SUBREAPER
    done = subprocess.run([sys.executable, "-c", adopt, ORPHAN], capture_output=True, check=False)
    assert done.returncode == 3, done.stderr

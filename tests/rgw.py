"""A Ceph RADOS Gateway of our own: one node, in memory, private, up in about a second.

    python tests/rgw.py start DIR [--tls]
    eval "$(python tests/rgw.py env DIR)"       # AWS_ENDPOINT_URL, keys, region
    python tests/rgw.py stop DIR

Used by the demo through these commands and by the tests through `Gateway`. One monitor, one
OSD that keeps everything in memory and one gateway, on free ports of the loopback device
and with every file in DIR. It never reads /etc/ceph, needs neither root nor keys between
the daemons, and `stop` leaves neither a process nor DIR.

Open to every user of this machine, and empty after each start: for tests only.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import secrets
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"
REGION = "us-east-1"  # the one a zone without a name accepts
START_SEC_MAX = 60.0  # about 1 s on an idle machine
MON, OSD, RGW = "ceph-mon", "ceph-osd", "radosgw"
PROGRAMS = (MON, OSD, RGW, "monmaptool", "osdmaptool", "radosgw-admin")
FENCE = "/?fence="
CONF = Path(__file__).with_suffix(".conf")

# To the kernel a parent dies with the thread that started the child: this one stays.
STARTER = ThreadPoolExecutor(1, "gateway-starter")

# beast: 0x7f..: 127.0.0.1 - user [time] "GET /bucket/key HTTP/1.1" 200 11 - "agent" - latency=..
LOG_LINE = re.compile(rb'beast: \S+: \S+ - \S+ \[[^]]*\] "(\S+) (.*?) HTTP/1\.\d" (\d+) (\d+) ')
EVENT = re.compile(rb"  1 (?:=+ starting new request req=(0x[0-9a-f]+)|beast: (0x[0-9a-f]+):)")
LATE_BYTES = 1 << 18  # of the log. A request is answered first, and logged when it has ended
LATE_SEC = 5.0  # a request that takes longer is still under way


class GatewayError(Exception):
    """One message for a person."""


class Request(NamedTuple):
    """What the gateway says it was asked; ``path`` with its query, as the client wrote it.

    ``size``: bytes of both bodies together, the request's and the answer's.
    """

    method: str
    path: str
    status: int
    size: int


class Gateway:
    """One gateway and its cluster in ``folder``, which must be new, empty or an earlier one's.

    With ``keep_running`` the daemons outlive this process, else the kernel ends them with it,
    however it ends. ``endpoint``, ``access_key`` and ``secret_key`` are set by `start`.
    """

    region = REGION
    store_bytes = 4 << 30  # what the OSD says it can hold; objects take up to twice their size

    def __init__(self, folder: Path, *, tls: bool = False, keep_running: bool = False) -> None:
        self.folder = folder.absolute()
        self.log_path = self.folder / "log" / "radosgw.log"
        self.ca_bundle = self.folder / "tls.crt" if tls else None
        self.endpoint = self.access_key = self.secret_key = ""
        self._keep_running = keep_running
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._answering = False  # false while radosgw is stopped, killed or not yet started
        self._deadline = 0.0
        self._born = 0  # where the log of the radosgw that runs now begins

    @classmethod
    def attach(cls, folder: Path) -> Gateway:
        """The gateway that another process started in ``folder``."""
        try:
            lines = (folder / "env").read_text().splitlines()
        except FileNotFoundError:
            raise GatewayError(f"no gateway was started in {folder}") from None
        values = dict(line.split("=", 1) for line in lines)
        self = cls(folder, tls="AWS_CA_BUNDLE" in values, keep_running=True)
        self.endpoint = values["AWS_ENDPOINT_URL"]
        self.access_key = values["AWS_ACCESS_KEY_ID"]
        self.secret_key = values["AWS_SECRET_ACCESS_KEY"]
        self._answering = True
        return self

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point an S3 client here."""
        values = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }
        return values | ({"AWS_CA_BUNDLE": str(self.ca_bundle)} if self.ca_bundle else {})

    # --- life -------------------------------------------------------------------------

    def start(self) -> None:
        """Build the cluster and wait until the gateway answers; on failure nothing is left."""
        if missing := [name for name in PROGRAMS if not shutil.which(name)]:
            raise GatewayError(f"not installed: {', '.join(missing)} (Debian: radosgw ceph-mon)")
        self.stop()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._deadline = time.monotonic() + START_SEC_MAX
        try:
            self._build()
        except BaseException as error:
            logs = "".join(_log_tails(self.folder))
            self.stop()
            if isinstance(error, GatewayError):
                raise GatewayError(f"{error}\n{logs}") from None
            raise

    def stop(self) -> None:
        """Kill what runs in the folder and remove it, memory and all. Repeating is harmless."""
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return
        if not (self.folder / "ceph.conf").exists():
            raise GatewayError(f"{self.folder} has files in it that are not a gateway's")
        self._kill(RGW, OSD, MON)
        shutil.rmtree(self.folder)

    def pause(self) -> None:
        """Make the gateway hang: it accepts connections and says nothing."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + START_SEC_MAX
        while not self._is_stopped() and time.monotonic() < deadline:
            time.sleep(0.005)  # between two looks, until the deadline
        self._answering = False

    def resume(self) -> None:
        """End `pause`; what was asked meanwhile is answered now."""
        self._signal(signal.SIGCONT)
        self._answering = True

    def kill(self) -> None:
        """Make the gateway go away: connections are refused. The cluster keeps the data."""
        self._kill(RGW)

    def restart(self) -> None:
        """Bring the gateway back at the same endpoint, with the data it had."""
        self._kill(RGW)
        self._born = self.log_path.stat().st_size  # what was under way has died
        self._deadline = time.monotonic() + START_SEC_MAX
        self._spawn(RGW, "-n", "client.rgw")
        self._await_answer()

    def recover(self) -> None:
        """Undo `pause` and `kill`, for whoever comes next. Harmless when all is well."""
        if self._pid(RGW):
            self.resume()
        else:
            self.restart()

    # --- what it was asked --------------------------------------------------------------

    def mark(self) -> int:
        """A place in the log: every request answered so far is before it."""
        return self._fence()

    def requests(self, since_offset: int = 0) -> list[Request]:
        """The requests answered since a `mark`, in the order they ended."""
        until = self._fence() if self._answering else self.log_path.stat().st_size
        with self.log_path.open("rb") as log:
            log.seek(since_offset)
            text = log.read(until - since_offset)
        found = (
            Request(method.decode(), path.decode(errors="replace"), int(status), int(size))
            for method, path, status, size in LOG_LINE.findall(text)
        )
        return [request for request in found if not request.path.startswith(FENCE)]

    def _fence(self) -> int:
        """Ask something nobody else asks; where the log ends once it has that, and all before."""
        fence = (FENCE + uuid.uuid4().hex).encode()
        start = max(self._born, self.log_path.stat().st_size - LATE_BYTES)
        self.answers(fence.decode())
        began = time.monotonic()
        while (waited_sec := time.monotonic() - began) < START_SEC_MAX:
            with self.log_path.open("rb") as log:
                log.seek(start)
                text = log.read()
            at, end = text.find(fence), text.rfind(b"\n") + 1
            late = set[bytes]()
            for event in EVENT.finditer(text, 0, end):  # in order: addresses are used again
                late.discard(event[2])
                if event[1] and event.start() < at:  # who is answered by now had begun by then
                    late.add(event[1])
            if 0 <= at < end and (not late or waited_sec > LATE_SEC):
                return start + end
            time.sleep(0.005)  # between two looks, until the deadline
        raise GatewayError(f"a request does not appear in {self.log_path}")

    def answers(self, path: str = "/", *, timeout_sec: float = 5.0) -> bool:
        """Whether a request without credentials is answered."""
        context = ssl.create_default_context(cafile=self.ca_bundle) if self.ca_bundle else None
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # none: this is loopback
            urllib.request.HTTPSHandler(context=context),
        )
        try:
            opener.open(self.endpoint + path, timeout=timeout_sec).close()
        except urllib.error.HTTPError as answer:
            answer.close()
        except OSError:
            return False
        return True

    # --- the cluster ----------------------------------------------------------------------

    def _build(self) -> None:
        self.access_key, self.secret_key = secrets.token_hex(10).upper(), secrets.token_hex(20)
        port, mon_port = _free_ports(2)
        self.endpoint = f"{'https' if self.ca_bundle else 'http'}://{HOST}:{port}"
        fsid = str(uuid.uuid4())
        self._write_conf(port, mon_port, fsid)
        if self.ca_bundle:
            self._make_certificate()
        # The monitor's first map has osd.0 already, so that nobody needs to be told of it.
        self._run("monmaptool --create monmap --fsid", fsid, f"--addv a [v2:{HOST}:{mon_port}]")
        self._run("osdmaptool -c ceph.conf --createsimple 1 osdmap")
        self._run("ceph-mon -c ceph.conf -i a --mkfs --monmap monmap --osdmap osdmap")
        self._spawn(MON, "-i", "a")
        self._run("ceph-osd -c ceph.conf -i 0 --mkfs --osd-uuid", str(uuid.uuid4()))
        self._spawn(OSD, "-i", "0")
        # This waits for the two of them, and makes the pools.
        keys = f"--access-key={self.access_key} --secret-key={self.secret_key}"
        self._run("radosgw-admin -c ceph.conf user create --uid=test --display-name=test", keys)
        self._spawn(RGW, "-n", "client.rgw")
        self._await_answer()
        lines = [f"{name}={value}\n" for name, value in self.environment.items()]
        (self.folder / "env.new").write_text("".join(lines))
        (self.folder / "env.new").rename(self.folder / "env")  # last: now it is complete

    def _write_conf(self, port: int, mon_port: int, fsid: str) -> None:
        endpoint = f"endpoint={HOST}:{port}"
        if self.ca_bundle:
            endpoint = f"ssl_{endpoint} ssl_certificate=tls.crt ssl_private_key=tls.key"
        conf = CONF.read_text().format(
            host=HOST, mon_port=mon_port, fsid=fsid, endpoint=endpoint, store_bytes=self.store_bytes
        )
        (self.folder / "ceph.conf").write_text(conf)
        for name in ("log", "mon", "osd", "rgw"):
            (self.folder / name).mkdir()

    def _make_certificate(self) -> None:
        self._run(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30",
            f"-subj /CN=localhost -addext subjectAltName=IP:{HOST},DNS:localhost",
            "-keyout tls.key -out tls.crt",
        )

    def _await_answer(self) -> None:
        while not self.answers():
            for name, child in self._children.items():
                if child.poll() is not None:
                    raise GatewayError(f"{name} ended with status {child.returncode}")
            if time.monotonic() > self._deadline:
                raise GatewayError(f"the gateway did not answer within {START_SEC_MAX:.0f} s")
            time.sleep(0.02)  # between two looks, until the deadline
        self._answering = True

    # --- processes --------------------------------------------------------------------------

    def _run(self, *words: str) -> None:
        """Run a tool to its end. The words are split at blanks: no file name is among them."""
        command = " ".join(words).split()
        left_sec = max(1.0, self._deadline - time.monotonic())
        try:
            done = subprocess.run(
                command, cwd=self.folder, capture_output=True, timeout=left_sec, check=False
            )
        except subprocess.TimeoutExpired:
            raise GatewayError(f"{command[0]} did not end in time") from None
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise GatewayError(f"{command[0]} failed: {said}")

    def _spawn(self, name: str, *options: str) -> None:
        # setpriv, not preexec_fn, which is unsafe beside the threads of a test run.
        bound = [] if self._keep_running else ["setpriv", "--pdeathsig", "KILL"]
        with (self.folder / "log" / f"{name}.err").open("ab") as errors:
            child = STARTER.submit(
                subprocess.Popen[bytes],
                [*bound, name, "-f", "-c", "ceph.conf", *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for us, not for them
            ).result()
        self._children[name] = child
        (self.folder / f"{name}.pid").write_text(str(child.pid))

    def _pid(self, name: str) -> int | None:
        """The pid of a daemon that is alive; its working directory proves whose it is."""
        try:
            pid = int((self.folder / f"{name}.pid").read_text())
            ours = os.path.samefile(f"/proc/{pid}/cwd", self.folder)
        except (OSError, ValueError):
            return None
        return pid if ours else None

    def _signal(self, number: signal.Signals) -> None:
        if (pid := self._pid(RGW)) is None:
            raise GatewayError("radosgw is not running")
        os.kill(pid, number)

    def _is_stopped(self) -> bool:
        """Whether every thread of the gateway has taken the signal."""
        tasks = Path(f"/proc/{self._pid(RGW)}/task").glob("*/stat")
        return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)

    def _kill(self, *names: str) -> None:
        """End daemons the hard way: an orderly OSD would first write its memory to disk."""
        self._answering &= RGW not in names
        for name in names:
            if pid := self._pid(name):
                os.kill(pid, signal.SIGKILL)
            if child := self._children.pop(name, None):
                child.wait()
        deadline = time.monotonic() + START_SEC_MAX
        while alive := [name for name in names if self._pid(name)]:
            if time.monotonic() > deadline:
                raise GatewayError(f"will not die: {', '.join(alive)}")
            time.sleep(0.005)  # between two looks, until the deadline


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below those the kernel gives to outgoing connections."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ours = range(15_000 + worker % 16, 32_000, 16)  # no other worker draws from these meanwhile
    found: set[int] = set()
    while len(found) < count:
        port = random.SystemRandom().choice(ours)
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                found.add(port)
    return list(found)


def _log_tails(folder: Path) -> Iterator[str]:
    """The last lines of every log, to explain a start that failed."""
    for path in sorted((folder / "log").glob("*")):
        if lines := path.read_text(errors="replace").splitlines()[-5:]:
            yield "\n".join([f"--- {path.name}", *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="A Ceph RADOS Gateway for tests, in memory.")
    parser.add_argument("command", choices=["start", "stop", "env"])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--tls", action="store_true", help="serve https")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        _command(given.command, given.dir, tls=given.tls)
    except (GatewayError, OSError) as error:
        sys.exit(f"rgw: {error}")


def _command(command: str, folder: Path, *, tls: bool) -> None:
    if command == "env":
        for name, value in Gateway.attach(folder).environment.items():
            print(f"export {name}={shlex.quote(value)}")
    elif command == "stop":
        Gateway(folder).stop()
    elif (folder / "env").exists() and Gateway.attach(folder).answers():
        print(f"rgw: already running at {Gateway.attach(folder).endpoint}")
    else:
        gateway = Gateway(folder, tls=tls, keep_running=True)
        gateway.start()
        print(f"rgw: running at {gateway.endpoint}")


if __name__ == "__main__":
    main()

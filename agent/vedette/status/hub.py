"""Server-sent events: one computation a second for all viewers, none without viewers.

Source: WHATWG HTML, "Server-sent events".
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from vedette.status.board import FRESH
from vedette.status.pages import parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vedette.status.board import Board

MOST_VIEWERS: Final = 50
_BEHIND = 8  # messages that a viewer may be behind before it is cut off
_ALIVE = 15  # seconds between signs of life: a viewer that is gone is noticed when it is written to
_Queue = asyncio.Queue[bytes | None]


class Hub:
    """Sends every viewer what changed on the board since it looked last."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._viewers: set[_Queue] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._sent = 0
        self._parts: dict[str, tuple[str, int]] = {}

    @property
    def full(self) -> bool:
        """Whether there are too many viewers for one more."""
        return len(self._viewers) >= MOST_VIEWERS

    async def stream(self, stamp: str) -> AsyncIterator[bytes]:
        """The events for a viewer who has the page with this stamp."""
        queue: _Queue = asyncio.Queue(_BEHIND)
        self._board.refresh()
        if not self._viewers:
            self._sent = self._board.version
        self._viewers.add(queue)
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.get_running_loop().create_task(self._tick(), name="vedette/status")
        try:
            yield self._message(self._known(stamp)) or b":\n\n"
            while (message := await queue.get()) is not None:
                yield message
        finally:
            self._viewers.discard(queue)

    def close(self) -> None:
        """End every stream."""
        for queue in self._viewers:
            _end(queue)
        if self._ticker is not None:
            self._ticker.cancel()

    def _known(self, stamp: str) -> int:
        epoch, _, version = stamp.rpartition("-")
        mine = epoch == self._board.epoch and version.isdecimal() and len(version) < 20
        return int(version) if mine else -1

    async def _tick(self) -> None:
        quiet = 0.0
        while self._viewers:
            await asyncio.sleep(FRESH)
            self._board.refresh()
            message = self._message(self._sent)
            quiet = 0.0 if message else quiet + FRESH
            if not message and quiet >= _ALIVE:
                message, quiet = b":\n\n", 0.0
            self._sent = self._board.version
            if message:
                self._send(message)

    def _send(self, message: bytes) -> None:
        for queue in list(self._viewers):
            if queue.full():  # it reads too slowly: cut off, it comes back and gets what it lacks in one go
                _end(queue)
                self._viewers.discard(queue)
            else:
                queue.put_nowait(message)

    def _message(self, known: int) -> bytes:
        """The event for those who have this version; empty if they have everything."""
        board = self._board
        changed = self._changed_parts()
        if known >= board.version and all(version <= known for _, version in changed.values()):
            return b""
        news: dict[str, Any] = {"layout": True}
        if known >= board.layout:
            fresh = {name: html for name, (html, version) in changed.items() if version > known}
            news = {"rows": board.since(known), "parts": fresh}
        return b"id: %b\ndata: %b\n\n" % (board.stamp.encode(), msgspec.json.encode(news))

    def _changed_parts(self) -> dict[str, tuple[str, int]]:
        """The parts that are sent whole, each with the version in which it became this."""
        for name, markup in parts(self._board).items():
            html = str(markup)
            if self._parts.get(name, ("", 0))[0] != html:
                self._parts[name] = (html, self._board.version)
        return self._parts


def _end(queue: _Queue) -> None:
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)

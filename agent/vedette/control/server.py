"""The control socket: one line of JSON in, one line out. Only the agent's own user may connect."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.control import ControlError
from vedette.control.path import short
from vedette.control.wire import encode, perform

if TYPE_CHECKING:
    from pathlib import Path

    from vedette.control import Operations

log = logging.getLogger("vedette.control")

_LONGEST_NAME = 80  # bytes, so that it fits into an address in whatever folder it is
_LONGEST_REQUEST = 64 * 1024
_MOST_CLIENTS = 16
_PATIENCE = 5.0  # seconds for a request to arrive, and for a part of the answer to be taken
_LONGEST_WORK = 100.0


class ControlServer:
    """Serves `Operations` on a unix socket, from `start` to `stop`.

    Args:
        operations: the agent.
        path: where the socket is made, with mode 0600.
    """

    def __init__(self, operations: Operations, path: Path) -> None:
        self.path = path
        self._operations = operations
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._clients: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen. What stands in the way is logged: the agent goes on, only the commands do not reach it."""
        try:
            listener = _bind(self.path)
        except OSError as error:
            log.warning("commands cannot reach this agent: %s", error.strerror)
            return
        self._inode = self.path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_LONGEST_REQUEST)

    async def stop(self) -> None:
        """Stop listening, cut off whoever is connected, remove the socket if it is still ours."""
        if self._server is None:
            return
        self._server.close()
        clients = set(self._clients)
        for client in clients:
            client.cancel()
        if clients:
            await asyncio.wait(clients, timeout=1.0)
        with suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for type checkers
        self._clients.add(task)
        try:
            if len(self._clients) <= _MOST_CLIENTS:
                await self._answer(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):  # it went away or dawdles, or the agent stops
            writer.transport.abort()
        finally:
            self._clients.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                line = await reader.readline()
        except ValueError:  # asyncio's way to say that the line is longer than its limit
            line = b"too long"
        if not line:
            return
        writer.write(encode(await self._reply(line)))
        async with asyncio.timeout(_PATIENCE):
            await writer.drain()

    async def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            return {"ok": False, "error": 'a request is one line of JSON, such as {"op": "status"}'}
        try:
            async with asyncio.timeout(_LONGEST_WORK):
                return {"ok": True, "result": await perform(self._operations, request)}
        except ControlError as error:
            return {"ok": False, "error": str(error)}
        except TimeoutError:
            return {"ok": False, "error": f"not done within {_LONGEST_WORK:.0f} s; the agent's log may say why"}
        except Exception as error:
            log.exception("a request failed because of a fault in vedette itself")
            return {"ok": False, "error": f"a fault in vedette itself ({type(error).__name__}); its log says more"}


def _bind(path: Path) -> socket.socket:
    """A listening socket for its owner alone.

    Raises:
        OSError: with a sentence in `strerror` that names the path.
    """
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise OSError(
            errno.ENAMETOOLONG,
            f"{path.name} is too long for the name of a socket ({_LONGEST_NAME} bytes); see control_socket",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with short(path) as name:
            listener.bind(name)
        path.chmod(0o600)  # before `listen`: nobody can have come in yet
        listener.listen(_MOST_CLIENTS)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, _worded(error, path)) from None
    return listener


def _worded(error: OSError, path: Path) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{path} is in use by another agent; give this one a control_socket of its own in agent.yaml"
    return f"{path}: {error.strerror}"


def _clear(path: Path) -> None:
    """Remove a socket on which nobody listens any more; leave alone what is alive or no socket.

    Raises:
        OSError: somebody listens on it (EADDRINUSE), or it is something else.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "is there already and no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a live one with a full backlog says EAGAIN: it is alive
        try:
            with short(path) as name:
                probe.connect(name)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
    raise OSError(errno.EADDRINUSE, "in use")

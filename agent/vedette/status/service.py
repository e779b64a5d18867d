"""The status page as a service of the agent: uvicorn on the agent's own event loop, without a timer of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.server import Server

from vedette.listen import split_address
from vedette.status.app import Page
from vedette.status.history import History

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

    from vedette.config import HttpConfig
    from vedette.control import Operations

log = logging.getLogger("vedette.status")

_AGAIN = 30.0  # seconds between two tries to have a port that is taken
_MOST_CONNECTIONS = 200
_STOP = 2.0
_PAGE = "status page"


class StatusPage:
    """Serves the page from `start` to `stop`.

    Args:
        operations: the agent.
        options: `http:` of agent.yaml.
        instances: how many instances there are.
        history: what a page before this one remembered.
    """

    def __init__(
        self, operations: Operations, options: HttpConfig, instances: int, history: History | None = None
    ) -> None:
        self.history = history or History(instances)
        """A consumer of batches."""
        self._page = page = Page(operations, self.history)
        self._door = _Door(lambda: page.app(options), options.address, options.tls, _PAGE)
        self._probes: _Door | None = None
        if options.probes is not None:
            self._probes = _Door(page.probes, split_address(options.probes), lambda: None, "probes")

    async def start(self) -> None:
        """Listen. What stands in the way is logged and tried again now and then."""
        await self._door.start()
        if self._probes is not None:
            await self._probes.start()

    async def stop(self) -> None:
        """End every stream and connection."""
        self._page.hub.close()
        if self._probes is not None:
            await self._probes.stop()
        await self._door.stop()

    @property
    def url(self) -> str:
        """Where the page is while it is served."""
        return self._door.url

    @property
    def probes_url(self) -> str:
        """Where the probes are while they are served."""
        return "" if self._probes is None else self._probes.url


class _Door:
    """One address with an application behind it, tried again while it cannot be had.

    Args:
        app: makes the application.
        address: host and port.
        tls: makes the TLS context, or gives None.
        what: is served there.
    """

    def __init__(
        self,
        app: Callable[[], ASGIApp],
        address: tuple[str, int],
        tls: Callable[[], ssl.SSLContext | None],
        what: str,
    ) -> None:
        self.url = ""
        """Where it is while it is served."""
        self._app = app
        self._address = address
        self._tls = tls
        self._what = what
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, or try again later."""
        trouble = await self._open()
        if trouble:
            self._task = asyncio.get_running_loop().create_task(self._keep_trying(trouble), name="vedette/http")

    async def stop(self) -> None:
        """End every connection."""
        self.url = ""
        if self._server is not None:
            self._server.leave.set()
        elif self._task is not None:
            self._task.cancel()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_STOP)

    async def _keep_trying(self, trouble: str) -> None:
        while trouble:
            log.warning("no %s: %s; tried again every %.0f s", self._what, trouble, _AGAIN)
            known = trouble
            while (trouble := await self._later()) == known:
                continue

    async def _later(self) -> str:
        await asyncio.sleep(_AGAIN)
        return await self._open()

    async def _open(self) -> str:
        """Listen and serve; returns what stands in the way, or nothing."""
        try:
            tls = self._tls()
            listener = await _listen(self._address)
        except OSError as error:
            return str(error.strerror or error)
        config = Config(
            self._app(),
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            log_level="error",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        config.load()
        config.ssl = tls
        self._server = _Server(config)
        self._task = asyncio.get_running_loop().create_task(self._server.serve([listener]), name="vedette/http")
        host, port = listener.getsockname()[:2]
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/"
        log.info("serving %s%s", self.url, "" if self._what == _PAGE else f" ({self._what})")
        return ""


class _Server(Server):
    """uvicorn's server as a part of an agent: signals are the agent's, and nothing wakes up while nobody asks."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.leave = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def main_loop(self) -> None:
        """Wait; uvicorn's own loop wakes up ten times a second for headers and limits that are not used here."""
        await self.leave.wait()


async def _listen(address: tuple[str, int]) -> socket.socket:
    """A bound socket.

    Raises:
        OSError: the address cannot be had; `strerror` names it.
    """
    host, port = address
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, where = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(64)  # here and not in uvicorn, where a port that was taken meanwhile would end the process
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {reason.lower()}") from None
    listener.setblocking(False)
    return listener

"""Floor 4: what answers people while the agent runs: the control socket and the status page."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vedette.control.server import ControlServer

if TYPE_CHECKING:
    from pathlib import Path

    from vedette.config import HttpConfig
    from vedette.control import Operations
    from vedette.metrics import Batch
    from vedette.status.service import StatusPage


class Services:
    """Starts both after the instances, and ends them before the sinks.

    Args:
        operations: the agent.
        socket: where the control socket is to be.
    """

    def __init__(self, operations: Operations, socket: Path) -> None:
        self._operations = operations
        self._control = ControlServer(operations, socket)
        self._options: HttpConfig | None = None
        self._page: StatusPage | None = None

    async def start(self, options: HttpConfig | None, instances: int) -> None:
        """Begin to serve.

        Args:
            options: `http:` of agent.yaml.
            instances: how many instances there are.
        """
        await self._control.start()
        await self.have_page(options, instances)

    async def have_page(self, options: HttpConfig | None, instances: int) -> None:
        """Serve the page with these options from now on; one that has them already is left alone."""
        if options == self._options:
            return
        before = self._page
        if before is not None:
            await before.stop()
        self._options, self._page = options, None
        if options is not None:  # starlette and uvicorn are for those who ask for a page, and take a while to come
            service: Any = await asyncio.to_thread(import_module, "vedette.status.service")
            history = before.history if before is not None else None
            page: StatusPage = service.StatusPage(self._operations, options, instances, history)
            self._page = page
            await page.start()

    def consume(self, batch: Batch) -> None:
        """Remember what the page will show of a batch."""
        if self._page is not None:
            self._page.history.add(batch)

    async def stop(self) -> None:
        """End what serves."""
        if self._page is not None:
            await self._page.stop()
        await self._control.stop()

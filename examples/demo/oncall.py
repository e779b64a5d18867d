"""Whoever is on call: a receiver of the agent's webhook notifier that keeps what it was told."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

_MOST = 4  # messages that are shown


class OnCall:
    """What was told of late, a line each, and where to tell it."""

    def __init__(self) -> None:
        self.port = 0
        self.told: deque[str] = deque(maxlen=_MOST)

    async def hear(self, request: web.Request) -> web.Response:
        """Take a message of docs/notifiers.md, chapter "webhook"."""
        for alert in json.loads(await request.read())["alerts"]:
            state = alert["severity"].upper() if alert["state"] == "firing" else alert["state"].upper()
            step = alert["evidence"].get("step")
            self.told.append(f"{time.strftime('%H:%M:%S')} {state}: {alert['rule']}{f' ({step})' if step else ''}")
        return web.Response(status=204)


@asynccontextmanager
async def on_call() -> AsyncIterator[OnCall]:
    """Somebody who hears on a free port of loopback."""
    made = OnCall()
    app = web.Application()
    app.router.add_post("/", made.hear)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()

"""A sign of life of the alerting itself: whoever gets it notices when it stops."""

from __future__ import annotations

import asyncio
import logging
import time
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Final

from vedette.notifier import Alert
from vedette.units import format_duration

if TYPE_CHECKING:
    from vedette.alerts.engine import Tell
    from vedette.rules.model import Heartbeat

log = logging.getLogger("vedette.alerts")

_PATIENCE: Final = 10.0
KEY: Final = "vedette heartbeat"


class Pulse:
    """Beats as long as it is asked to, which whoever evaluates the rules does."""

    def __init__(self) -> None:
        self._due = 0.0
        self._sending: asyncio.Task[None] | None = None
        self.trouble = ""
        self.arrived: bool | None = None
        """Whether the last one to a URL did; None if none was sent."""

    def beat(self, heartbeat: Heartbeat | None, tell: Tell | None, now: float) -> None:
        """Beat if it is time to; never waits.

        Args:
            heartbeat: how; None does nothing.
            tell: tells a notifier.
            now: Unix seconds.
        """
        if heartbeat is None or not (now >= self._due or self._due - now > heartbeat.every):
            return
        self._due = now + heartbeat.every
        if heartbeat.notifier:
            if tell is not None:
                tell(sign_of_life(heartbeat, now), (heartbeat.notifier,))
        elif heartbeat.url and (self._sending is None or self._sending.done()):
            self._sending = asyncio.get_running_loop().create_task(self._send(heartbeat.url.reveal()))

    async def _send(self, url: str) -> None:
        before = self.trouble
        try:
            await asyncio.to_thread(_ask, url)
        except (OSError, ValueError) as error:  # urllib's own errors are OSErrors; their texts may hold the URL
            self.arrived = False
            self.trouble = f"the heartbeat does not arrive ({type(error).__name__})"
            if not before:
                log.warning("%s", self.trouble)
        else:
            self.arrived = True
            self.trouble = ""
            if before:
                log.info("the heartbeat arrives again")


def _ask(url: str) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "vedette"})  # noqa: S310 - http and https alone
    with closing(urllib.request.urlopen(request, timeout=_PATIENCE)) as answer:  # noqa: S310
        answer.read(1)


def sign_of_life(heartbeat: Heartbeat, now: float | None = None) -> Alert:
    """What a notifier gets as a heartbeat."""
    now = time.time() if now is None else now
    summary = f"vedette evaluates its alert rules; the next sign comes in {format_duration(heartbeat.every)}"
    return Alert(KEY, KEY, "firing", "info", summary, since=now, at=now, labels={"heartbeat": "true"})

"""Hands alerts to notifiers: by name, by route, each on a lane of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from vedette.alerts.lane import Lane
from vedette.alerts.letters import Letterbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from vedette.config.notify import Route
    from vedette.notifier import Alert, Notifier, NotifierConfig
    from vedette.report import NotifierVitals

    Configured = tuple[type[Notifier[Any]], NotifierConfig]

log = logging.getLogger("vedette.notifier")


class Dispatcher:
    """Tells people of alerts, as the configuration says.

    Args:
        configured: notifier classes with their options.
        routes: who is told where a rule does not say it.
        folder: where what waits is kept, a folder in it for each notifier; None keeps it in memory.
        mask: blots secrets out of failures.
        host: the agent's.
        wall: the time in Unix seconds.
    """

    def __init__(
        self,
        configured: Iterable[Configured],
        routes: Sequence[Route] = (),
        folder: Path | None = None,
        mask: Callable[[str], str] = str,
        host: str = "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._mask = mask
        self._host = host
        self._wall = wall
        self._routes = tuple(routes)
        self._started = False
        self.unrouted = 0
        """Alerts so far that nobody is to be told of."""
        self._lanes = {lane.name: lane for lane in map(self._lane, configured)}

    @property
    def vitals(self) -> list[NotifierVitals]:
        """Where each notifier stands."""
        return [lane.vitals for lane in self._lanes.values()]

    @property
    def idle(self) -> bool:
        """Whether all have been told everything."""
        return all(lane.idle for lane in self._lanes.values())

    def tell(self, alert: Alert, names: Sequence[str] = ()) -> None:
        """Have an alert told; never waits, and what it has taken over survives a kill of the process.

        To be called on the event loop, once for each change of an incident and for each reminder.

        Args:
            alert: what has become of an incident.
            names: notifiers and named routes, as in a rule's `notify:`; empty leaves it to the routes.
        """
        chosen = self.addressees(alert, names)
        if not chosen:
            self.unrouted += 1
            if self._lanes:
                log.warning("nobody is told of '%s' (%s): no route fits it", alert.rule, alert.state)
        for name in chosen:
            self._lanes[name].put(alert)

    def addressees(self, alert: Alert, names: Sequence[str] = ()) -> list[str]:
        """The notifiers that `tell` hands it to, each once."""
        found = self._called(alert, names)
        if not found and self._routes:
            for route in self._routes:
                if route.fits(alert):
                    found.update(dict.fromkeys(route.notify))
        elif not found:
            found.update(dict.fromkeys(self._lanes))
        return [name for name in found if name in self._lanes]

    def _called(self, alert: Alert, names: Sequence[str]) -> dict[str, None]:
        """The notifiers that a rule names; where none of them is there the routes decide, for somebody must hear."""
        found: dict[str, None] = {}
        routed = {route.name: route.notify for route in self._routes if route.name} if names else {}
        for name in names:
            for one in (name,) if name in self._lanes else routed.get(name, (name,)):
                if one in self._lanes:
                    found[one] = None
                else:
                    log.warning("'%s' wants to notify '%s', and there is no such notifier", alert.rule, one)
        return found

    def resume(self, alert: Alert, names: Sequence[str] = ()) -> None:
        """This agent has the say about an incident that another one told of (a takeover): nobody is told again.

        Only notifiers that tell their receiver again and again that an alert goes on take it up. See `tell`.
        """
        for name in self.addressees(alert, names):
            if self._lanes[name].repeats:
                self._lanes[name].put(alert)

    def forget(self, key: str) -> None:
        """This agent has no say about an incident any more (a takeover, a rule that is gone): repeat nothing of it.

        Only for notifiers that tell their receiver again and again that an alert goes on, such as `alertmanager`.
        """
        for lane in self._lanes.values():
            lane.forget(key)

    def start(self) -> None:
        """Begin to tell; what an earlier process left on disk comes first."""
        self._started = True
        for lane in self._lanes.values():
            lane.start()

    async def swap(self, configured: Sequence[Configured], routes: Sequence[Route], timeout: float) -> None:
        """Have just these notifiers. Those that are the same go on; one that differs keeps its queue.

        Args:
            configured: notifier classes with their options.
            routes: who is told where a rule does not say it.
            timeout: seconds that the attempts in hand of those that end may take.
        """
        self._routes = tuple(routes)
        wanted = {config.name or plugin.name: (plugin, config) for plugin, config in configured}
        ending = [lane for lane in self._lanes.values() if wanted.get(lane.name) != lane.configured]
        await asyncio.gather(*(lane.stop(timeout) for lane in ending))
        boxes = {lane.name: lane.box for lane in ending}
        kept = {lane.name: lane for lane in self._lanes.values() if lane not in ending}
        self._lanes = {
            name: kept.get(name) or self._lane(one, boxes.get(name))  # what came meanwhile is in the same box
            for name, one in wanted.items()
        }
        for lane in ending:
            if lane.name not in wanted and len(lane.box):
                log.warning("notifier %s is gone: %d alerts were not told", lane.name, len(lane.box))
        if self._started:
            self.start()

    async def stop(self, timeout: float) -> None:
        """Tell what can be told within so many seconds, and end; the rest stays on disk for the next start."""
        self._started = False
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not all(lane.idle or lane.vitals.trouble for lane in self._lanes.values()) and loop.time() < deadline:  # noqa: ASYNC110 - once, at the very end
            await asyncio.sleep(0.02)
        await asyncio.gather(*(lane.stop(max(0.1, deadline - loop.time())) for lane in self._lanes.values()))

    def _lane(self, configured: Configured, box: Letterbox | None = None) -> Lane:
        plugin, config = configured
        if box is None:
            name = config.name or plugin.name
            box = Letterbox(self._folder / name if self._folder is not None else None)
        return Lane(configured, box, self._mask, self._host, self._wall)

"""Hands alerts to notifiers: by name, by route, each on a lane of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from vedette.alerts.addressees import Addressees
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
        self._leaving: list[Lane] = []
        self._heirs: list[Lane] = []
        self._told = Addressees(folder)

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

        To be called on the event loop, once for each change of an incident and for each reminder. What becomes of an
        incident goes to those who were told that it fires, and to nobody else.

        Args:
            alert: what has become of an incident.
            names: notifiers and named routes, as in a rule's `notify:`; empty leaves it to the routes.
        """
        told = self._told.of(alert) if alert.state != "firing" else None
        chosen = self.addressees(alert, names) if told is None else [name for name in told if name in self._lanes]
        if not chosen:
            self.unrouted += 1
            if self._lanes:
                why = "no route fits it" if told is None else "nobody was told that it fires, or is there any more"
                log.warning("nobody is told of '%s' (%s): %s", alert.rule, alert.state, why)
        self._told.note(alert, chosen)
        for name in chosen:
            self._lanes[name].put(alert)

    def addressees(self, alert: Alert, names: Sequence[str] = ()) -> list[str]:
        """The notifiers that are to hear of something that fires, each once."""
        found = self._called(alert, names)
        if not found and self._routes:
            for route in self._routes:
                if route.fits(alert):
                    found.update(dict.fromkeys(route.notify))
        elif not found:
            found.update(dict.fromkeys(name for name, lane in self._lanes.items() if lane not in self._leaving))
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
        """This agent has the say about an incident that another one told of (a takeover): nobody is told twice.

        Receivers that know it by its key are told all the same, since the other agent may have ended before it could;
        so are notifiers that tell again and again that an alert goes on. See `tell`.
        """
        chosen = self._told.of(alert) or self.addressees(alert, names)
        self._told.note(alert, chosen)
        for name in chosen:
            if name in self._lanes:
                self._lanes[name].resume(alert)

    def forget(self, key: str) -> None:
        """This agent has no say about an incident any more (a takeover): repeat nothing of it.

        What waits since the receiver does not answer is not told any more: it would arrive after the recovery. What
        waits for its turn is tried once.
        """
        self._told.forget(key)
        for lane in self._lanes.values():
            lane.forget(key)

    def start(self) -> None:
        """Begin to tell; what an earlier process left on disk comes first."""
        self._started = True
        for lane in self._lanes.values():
            lane.start()

    async def swap(self, configured: Sequence[Configured], routes: Sequence[Route], timeout: float) -> None:
        """Have these notifiers. Those that are the same go on; one that differs keeps its queue.

        Those that are not wanted any more go on until `retire`, for rules of before that name them.

        Args:
            configured: notifier classes with their options.
            routes: who is told where a rule does not say it.
            timeout: seconds that the attempts in hand of those that change may take.
        """
        wanted = {config.name or plugin.name: (plugin, config) for plugin, config in configured}
        before = self._lanes
        self._heirs = [self._lane(one) for name, one in wanted.items() if name not in before]
        self._leaving = [lane for lane in before.values() if lane.name not in wanted]
        new = {lane.name: lane for lane in self._heirs}
        self._lanes = {**{name: new.get(name) or before[name] for name in wanted}, **before}
        self._routes = tuple(routes)
        self._start_again()
        changed = [lane for lane in self._lanes.values() if wanted.get(lane.name, lane.configured) != lane.configured]
        await asyncio.gather(*(lane.stop(timeout) for lane in changed))
        for lane in changed:  # what came meanwhile is in the same box
            self._lanes[lane.name] = self._lane(wanted[lane.name], lane.box)
        self._start_again()

    async def retire(self, timeout: float) -> None:
        """Have no others than those of the last `swap`, now that no rule names the others.

        What waits for one that is only called otherwise by now waits there; else it goes where the routes say.

        Args:
            timeout: seconds that the attempts in hand may take.
        """
        leaving, heirs, self._leaving, self._heirs = self._leaving, self._heirs, [], []
        await asyncio.gather(*(lane.stop(timeout) for lane in leaving))
        for lane in leaving:
            self._lanes.pop(lane.name, None)
        for lane in leaving:
            heir = next((one for one in heirs if one.is_like(lane)), None)
            if heir is not None:
                heir.inherit(lane)
                self._told.rename(lane.name, heir.name)
            else:
                self._told.rename(lane.name)
                self._redirect(lane)

    def _redirect(self, lane: Lane) -> None:
        """Tell what waits for a notifier that is gone to those whom the routes name and who do not know it."""
        for letter in lane.box.of():
            told = self._told.of(letter.alert) or []
            names = [name for name in self.addressees(letter.alert) if name not in told]
            if letter.alert.state == "firing" and names:
                self._told.note(letter.alert, names, also=True)
                for name in names:
                    self._lanes[name].put(letter.alert, letter.accepted)
            if names or told or letter.alert.state != "firing":
                lane.box.drop(letter)
        if len(lane.box):
            log.warning("notifier %s is gone: %d alerts were not told", lane.name, len(lane.box))

    def _start_again(self) -> None:
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

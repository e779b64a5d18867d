"""Floor 4: tells systemd how the agent is, and that it makes progress: READY, RELOADING, STOPPING, STATUS, WATCHDOG.

Sources: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) on WatchdogSec=; the messages are datagrams to the
address in NOTIFY_SOCKET, those in one datagram separated by newlines.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vedette.control import is_wrong, overall
from vedette.units import format_duration
from vedette.vitals import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableMapping

    from vedette.control import Snapshot
    from vedette.runner import Runner

LEFT_UNSTARTED = 60.0
"""Seconds after its tick at which an instance counts as forgotten by the scheduler, and not as late."""
_LOOK = 10.0
"""Seconds between two status lines where systemd wants no sign of life."""
_AT_FIRST = 1.0
"""Seconds between two status lines for `_LOOK` seconds: while the first runs come in."""
_BEATS = 3
"""Signs of life within the time after which systemd acts; sd_watchdog_enabled(3) recommends two."""
_SHOWN = 3

log = logging.getLogger("vedette.systemd")


class ServiceManager:
    """The service manager that started this process; without one every method does nothing.

    Args:
        address: its socket, a path or `@name` in the abstract namespace; empty if there is none.
        watchdog: seconds without a sign of life after which it acts; 0 if it waits for none.
    """

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self.watchdog = watchdog
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        elif address:  # vsock, for virtual machines
            log.warning("NOTIFY_SOCKET: an address of this kind is not known; systemd is told nothing")
        self._owed: dict[str, str] = {}
        self._serves = False
        self._status = ""
        self._forgotten: set[str] = set()

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> ServiceManager:
        """The one that the environment names. Takes its variables out: what a check starts is not the service."""
        address = environ.pop("NOTIFY_SOCKET", "")
        micros, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        meant = not pid or pid == str(os.getpid())
        watchdog = int(micros) / 1e6 if meant and micros.isascii() and micros.isdigit() else 0.0
        return cls(address, watchdog)

    # What the agent says

    def ready(self) -> None:
        """All instances are started."""
        self._serves = True
        self._tell(READY="1", **self._alive())

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """While the configuration is read again and applied, whether or not that succeeds."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        if self._serves:
            self._tell(RELOADING="1", MONOTONIC_USEC=str(now))
        try:
            yield
        finally:
            if self._serves:  # while it starts or stops, that is what counts
                self._tell(READY="1")

    def stopping(self) -> None:
        """The agent has begun to stop."""
        self._serves = False
        self._owed.clear()
        self._tell(STOPPING="1", STATUS="stopping", **self._alive())

    def close(self) -> None:
        """Say no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def attend(self, picture: Callable[[], Snapshot], runners: Callable[[], Iterable[Runner]]) -> None:
        """Tell the status, and give a sign of life as long as the scheduler makes progress, until cancelled.

        That this runs says that the loop turns. It also takes that no instance was left unstarted long after its
        tick, at two looks in a row: after a pause of the whole process the first may come before its turn.

        Args:
            picture: how the agent is now.
            runners: the instances that run now.
        """
        if self._socket is None:
            return
        pause = min(_LOOK, self.watchdog / _BEATS) if self.watchdog else _LOOK
        clock = asyncio.get_running_loop().time
        begun = due = clock()
        while True:
            now, messages = clock(), dict[str, str]()
            if now >= due:
                due = now + pause
                messages = self._alive() if self._progresses(runners(), now) else {}
            if (status := summary(picture())) != self._status:
                self._status = messages["STATUS"] = status
            self._tell(**messages)
            await asyncio.sleep(due - now if now - begun >= _LOOK else min(due - now, _AT_FIRST))

    def _progresses(self, runners: Iterable[Runner], now: float) -> bool:
        left = {one.instance.id: late for one in runners if (late := one.overdue(now)) > LEFT_UNSTARTED}
        again = sorted(self._forgotten & left.keys())
        self._forgotten = set(left)
        if again and self.watchdog:
            log.critical(
                "%s should have run %s ago and was not started, a fault in vedette itself: the watchdog is not fed",
                _named(again),
                format_duration(left[again[0]]),
            )
        return not again

    def _alive(self) -> dict[str, str]:
        return {"WATCHDOG": "1"} if self.watchdog else {}

    def _tell(self, **messages: str) -> None:
        """Send, with what could not be sent before: whoever reads slowly does not hold up the loop."""
        if self._socket is None:
            return
        if "READY" in messages:  # the end of a reload whose beginning nobody heard of
            self._owed.pop("RELOADING", None)
        self._owed.update(messages)
        if not self._owed:
            return
        text = "\n".join(f"{name}={value}" for name, value in self._owed.items())
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:
            log.debug("systemd cannot be told: %s", error)
        else:
            self._owed.clear()


def summary(snapshot: Snapshot) -> str:
    """How the agent is, as one line: `systemctl status` shows it."""
    number = len(snapshot.instances)
    parts = [f"{number} instance{'' if number == 1 else 's'}"]
    if wrong := [vitals.instance for vitals in snapshot.instances if is_wrong(vitals, snapshot.time)]:
        parts.append(f"{len(wrong)} failing: {_named(wrong)}")
    if sinks := [one.name for one in snapshot.sinks if one.trouble]:
        parts.append(f"sinks in trouble: {_named(sinks)}")
    if files := sorted({one.file for one in snapshot.problems if one.severity == "error"}):
        parts.append(f"mistakes in {_named(files)}")
    if waiting := sum(vitals.state is State.STARTING for vitals in snapshot.instances):
        parts.append(f"{waiting} not run yet")
    if len(parts) == 1:
        parts.append("all is well" if not overall(snapshot) else "a warning: see `vedette status`")
    return "; ".join(parts)


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

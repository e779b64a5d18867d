"""The way to one notifier: its queue, one task, and patience of its own."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.keeping import Memory
from vedette.alerts.pace import Pace
from vedette.alerts.tally import Tally
from vedette.crew import watched
from vedette.errors import CheckError, Undelivered
from vedette.outbox import describe
from vedette.report import NotifierVitals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vedette.alerts.letters import Letter, Letterbox
    from vedette.notifier import Alert, Notifier, NotifierConfig

    Configured = tuple[type[Notifier[Any]], NotifierConfig]

_MARGIN: Final = 1.0
"""Seconds beyond `timeout`, for a notifier that keeps it by itself and says it better."""
_CLOSE: Final = 2.0
_OUTAGE: Final = 2
"""Failures in a row after which it was the receiver's fault, not that of what was told."""


class Lane:
    """Tells one notifier what waits in its letterbox, whatever becomes of the others.

    After a failure it pauses (see `Pace`); then what did not fail comes first, and no group mixes the two, so that one
    which is always refused holds up none.

    Args:
        configured: the notifier's class and options.
        box: its queue.
        mask: blots secrets out of failures.
        host: the agent's.
        wall: the time in Unix seconds.
    """

    def __init__(
        self,
        configured: Configured,
        box: Letterbox,
        mask: Callable[[str], str],
        host: str = "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.configured = configured
        self.box = box
        self._host = host
        self._wall = wall
        self._notifier: Notifier[Any] = self._made()
        box.keyed = lambda alert: self._notifier.deduplicates(alert)  # of the object there is then
        self._log = self._notifier.log
        self._is_open = False
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._syncing: asyncio.Future[None] | None = None
        self._busy = False
        self._stopping = False
        self._beat_at = -math.inf
        self._pace = Pace(self._config.per_minute, self._notifier.window, self._notifier.most)
        self._tally = Tally(mask, self._log)

    @property
    def name(self) -> str:
        """What rules call it."""
        plugin, config = self.configured
        return config.name or plugin.name

    @property
    def _config(self) -> NotifierConfig:
        return self.configured[1]

    @property
    def vitals(self) -> NotifierVitals:
        """Where it stands."""
        oldest, tally = self.box.oldest, self._tally
        return NotifierVitals(
            name=self.name,
            type=self.configured[0].name,
            queued=len(self.box),
            sent=tally.sent,
            failed=tally.given_up,
            errors=tally.errors,
            oldest=0.0 if oldest is None else max(0.0, self._wall() - oldest),
            last_sent=tally.last_sent,
            trouble=tally.trouble or self.box.trouble,
            last_error=tally.last_error,
        )

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being told."""
        return not len(self.box) and not self._busy

    def put(self, alert: Alert, accepted: float | None = None) -> None:
        """Queue an alert; never waits.

        Args:
            alert: what to tell.
            accepted: Unix seconds at which it waited already; None is now.
        """
        if accepted is None:
            lost = self.box.add(alert, self._wall(), asyncio.get_running_loop().time())
        else:
            lost = self.box.add(alert, accepted, -math.inf)
        if lost:
            self._tally.gave_up(lost, f"{lost} alert(s) were given up: too many wait")
        self._sync()
        self._wake.set()

    def _sync(self) -> None:
        if self._syncing is None or self._syncing.done():  # one thread: a disk that hangs must not take them all
            with suppress(RuntimeError):  # the loop ends
                self._syncing = asyncio.get_running_loop().run_in_executor(None, self.box.sync)
                self._syncing.add_done_callback(self._synced)

    def _synced(self, _: object) -> None:
        if self.box.unsynced:  # written while the disk was at it
            self._sync()

    def inherit(self, other: Lane) -> None:
        """Take over what waits, and what is remembered, of a notifier that was the same by another name and ended."""
        for key, value in other._notifier.memory.items():
            self._notifier.memory.setdefault(key, value)
        for letter in other.box.of():
            self.put(letter.alert, letter.accepted)
            other.box.drop(letter)

    def is_like(self, other: Lane) -> bool:
        """Whether they differ in nothing but the name."""
        (plugin, config), (theirs, options) = self.configured, other.configured
        return plugin is theirs and config.model_copy(update={"name": ""}) == options.model_copy(update={"name": ""})

    def start(self) -> None:
        """Begin to tell."""
        if self._task is None:
            self._task = watched(self._run(), f"notifier {self.name}")

    async def stop(self, timeout: float) -> None:
        """End; what is being told may be told to its end within so many seconds. What waits stays on disk."""
        self._stopping = True
        self._wake.set()
        task, self._task = self._task, None
        if task is None:
            return
        _, late = await asyncio.wait({task}, timeout=timeout)
        if late:
            task.cancel()
            await asyncio.wait({task}, timeout=_CLOSE)
        for letter in [one for one in self.box.of() if one.last]:  # after a restart it might be stale by days
            self._hand_over(letter)
        await self._close()

    def resume(self, alert: Alert) -> None:
        """See `Dispatcher.resume`."""
        if self._notifier.rhythm or self._notifier.deduplicates(alert):
            self.put(alert)

    def forget(self, key: str) -> None:
        """See `Dispatcher.forget`."""
        self._notifier.forget(key)
        for letter in self.box.of(key):
            letter.last = True
            stuck = letter.attempts or self._pace.failures or self._notifier.deduplicates(letter.alert)
            if stuck and not self.box.flies(letter):
                self._hand_over(letter)
        self._wake.set()

    def _hand_over(self, letter: Letter) -> None:
        self.box.drop(letter)
        self._log.info("%s '%s' is left to the agent that has the say", letter.alert.state, letter.alert.rule)

    def _made(self) -> Notifier[Any]:
        plugin, config = self.configured
        made = plugin(config)
        folder: Path | None = self.box.folder
        made.memory = Memory(folder / f"memory-{plugin.name}.json" if folder is not None else None)
        made.host = self._host
        return made

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            self._wake.clear()
            now = loop.time()
            ready, letters = self._pace.next(self.box.heads(), now)
            if letters and now >= ready:
                await self._deliver(letters)
            elif self._notifier.rhythm and now >= self._beat_at:
                await self._beat()
            else:
                await self._sleep(min(ready, self._beat_at if self._notifier.rhythm else math.inf) - now)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else max(0.0, seconds) + 1e-6):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _deliver(self, letters: list[Letter]) -> None:
        """One attempt."""
        self._busy = True
        self._pace.spend()
        self.box.take(letters)
        alerts = [one.alert for one in letters]
        try:
            try:
                async with asyncio.timeout(self._config.timeout + _MARGIN):
                    await self._open()
                    await (self._notifier.send(alerts[0]) if len(alerts) == 1 else self._notifier.send_all(alerts))
            except (TimeoutError, Undelivered, CheckError) as error:
                self._refused(letters, error)
            except Exception as error:
                await self._crashed(letters, error)
            else:
                self._told(letters)
        finally:
            self.box.give_back()
            self._busy = False

    def _told(self, letters: list[Letter]) -> None:
        for letter in letters:
            self.box.drop(letter)
            if letter.last:
                self._notifier.forget(letter.alert.key)
        self._tally.told(len(letters), self._wall())
        if self._pace.failures >= _OUTAGE:
            self.box.begin_anew()
        self._worked()

    def _worked(self) -> None:
        self._pace.worked()
        self._tally.worked(self._notifier.trouble)

    def _refused(self, letters: list[Letter], error: Exception) -> None:
        if isinstance(error, Undelivered):
            what, again, after = error.message, error.again, error.after
        elif isinstance(error, CheckError):
            what, again, after = error.message, True, None
        else:
            what, again, after = f"no answer within {self._config.timeout:g}s", True, None
        if again:
            self._tally.failed(what)
            self._pace.failed(len(letters), after)
            self._try_later(letters)
        elif len(letters) > 1:  # one of them may be to blame
            self._tally.failed(what)
            for letter in letters:
                letter.alone = True
        else:
            self._give_up(letters[0], what)

    async def _crashed(self, letters: list[Letter], error: Exception) -> None:
        self._tally.failed(f"the notifier failed: {describe(error)}")
        self._log.debug("notifier failed", exc_info=error)
        await self._close()
        self._notifier = self._made()
        for letter in letters:
            letter.alone = True
        self._pace.failed(len(letters), None)
        self._try_later(letters)

    def _try_later(self, letters: list[Letter]) -> None:
        for letter in letters:
            letter.attempts += 1
            letter.back += 1
            if letter.last:
                self._hand_over(letter)
            elif self._age(letter) > self._config.retry_for:
                self._give_up(letter, "it could not be told for too long")

    def _age(self, letter: Letter) -> float:
        """Seconds since it was accepted; the wall clock, which may be set, is only asked of an earlier process's."""
        if math.isinf(letter.arrived):
            return self._wall() - letter.accepted
        return asyncio.get_running_loop().time() - letter.arrived

    def _give_up(self, letter: Letter, why: str) -> None:
        self.box.drop(letter)
        self._tally.gave_up(1, f"given up: {letter.alert.state} '{letter.alert.rule}': {why}")

    async def _beat(self) -> None:
        try:
            async with asyncio.timeout(self._config.timeout + _MARGIN):
                await self._open()
                await self._notifier.beat()
        except (TimeoutError, Undelivered, CheckError) as error:
            self._tally.failed(str(error) or f"no answer within {self._config.timeout:g}s")
        except Exception as error:
            self._tally.failed(f"the notifier failed: {describe(error)}")
            await self._close()
            self._notifier = self._made()
        else:
            if self._notifier.trouble or (self._tally.trouble and not len(self.box)):
                self._worked()
        self._beat_at = asyncio.get_running_loop().time() + self._notifier.rhythm

    async def _open(self) -> None:
        if not self._is_open:
            await self._notifier.open()
            self._is_open = True

    async def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            try:
                async with asyncio.timeout(_CLOSE):
                    await self._notifier.close()
            except Exception as error:
                self._log.debug("closing failed", exc_info=error)

"""The way to one notifier: its queue, one task, and patience of its own."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.letters import Memory
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

_FIRST: Final = 1.0
_LONGEST: Final = 60.0
"""Seconds: the ceiling of the pause after a failure, which doubles from the first to the longest."""
_MARGIN: Final = 1.0
"""Seconds beyond `timeout`, for a notifier that keeps it by itself and says it better."""
_CLOSE: Final = 2.0


class Lane:
    """Tells one notifier what waits in its letterbox, whatever becomes of the others.

    After a failure it pauses, for a time drawn evenly from 0 to a ceiling that doubles with each, at least as long as
    the receiver asks; then the letter that was tried least comes first, so that one which is always refused holds up
    none. Source: AWS Architecture Blog, "Exponential Backoff And Jitter" (full jitter).

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
        self._mask = mask
        self._host = host
        self._wall = wall
        self._notifier: Notifier[Any] = self._made()
        self._log = self._notifier.log
        self._is_open = False
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._syncing: asyncio.Future[None] | None = None
        self._busy = False
        self._stopping = False
        self._not_before = -math.inf
        self._beat_at = -math.inf
        self._failures = 0
        self._tokens = float(self._config.per_minute)
        self._filled = -math.inf
        self._sent = self._given_up = self._errors = 0
        self._trouble = self._last_error = ""
        self._last_sent = 0.0

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
        oldest = self.box.oldest
        return NotifierVitals(
            name=self.name,
            type=self.configured[0].name,
            queued=len(self.box),
            sent=self._sent,
            failed=self._given_up,
            errors=self._errors,
            oldest=0.0 if oldest is None else max(0.0, self._wall() - oldest),
            last_sent=self._last_sent,
            trouble=self._trouble or self.box.trouble,
            last_error=self._last_error,
        )

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being told."""
        return not len(self.box) and not self._busy

    def put(self, alert: Alert) -> None:
        """Queue an alert; never waits."""
        loop = asyncio.get_running_loop()
        lost = self.box.add(alert, self._wall(), loop.time())
        if lost:
            self._given_up += lost
            self._failed(f"{lost} alert(s) were given up: too many wait")
        if self._syncing is None or self._syncing.done():  # one thread: a disk that hangs must not take them all
            self._syncing = loop.run_in_executor(None, self.box.sync)
        self._wake.set()

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
        await self._close()

    @property
    def repeats(self) -> bool:
        """Whether it tells its receiver again and again that an alert goes on."""
        return self._notifier.rhythm > 0

    def forget(self, key: str) -> None:
        """See `Dispatcher.forget`."""
        if self.repeats and key in self._notifier.memory:
            del self._notifier.memory[key]

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
            heads = self.box.heads()
            ready = self._ready(heads)
            if heads and now >= ready:
                await self._deliver(self._chosen(heads))
            elif self._notifier.rhythm and now >= self._beat_at:
                await self._beat()
            else:
                await self._sleep(min(ready, self._beat_at if self._notifier.rhythm else math.inf) - now)

    def _ready(self, heads: list[Letter]) -> float:
        """When the next attempt may begin, by the loop's time; infinite if nothing waits."""
        if not heads:
            return math.inf
        moment = self._not_before
        window = self._notifier.window
        if window and len(heads) < self._notifier.most and not any(one.attempts for one in heads):
            moment = max(moment, min(one.arrived for one in heads) + window)
        return max(moment, self._token_at())

    def _token_at(self) -> float:
        """When the rate allows one more message."""
        now, rate = asyncio.get_running_loop().time(), self._config.per_minute / 60
        if self._filled > -math.inf:
            self._tokens = min(float(self._config.per_minute), self._tokens + (now - self._filled) * rate)
        self._filled = now
        return -math.inf if self._tokens >= 1 else now + (1 - self._tokens) / rate

    def _chosen(self, heads: list[Letter]) -> list[Letter]:
        first = heads[0]
        if not self._notifier.window or first.alone:
            return [first]
        return [one for one in heads if not one.alone][: self._notifier.most]

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else max(0.0, seconds) + 1e-6):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _deliver(self, letters: list[Letter]) -> None:
        """One attempt."""
        self._busy = True
        self._tokens -= 1
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
        self._sent += len(letters)
        self._last_sent = self._wall()
        self._worked()

    def _worked(self) -> None:
        self._failures = 0
        self._not_before = -math.inf
        if self._trouble:
            self._trouble = ""
            self._log.info("telling works again")

    def _refused(self, letters: list[Letter], error: Exception) -> None:
        if isinstance(error, Undelivered):
            what, again, after = error.message, error.again, error.after
        elif isinstance(error, CheckError):
            what, again, after = error.message, True, None
        else:
            what, again, after = f"no answer within {self._config.timeout:g}s", True, None
        if again:
            self._failed(what)
            self._pause(after)
            self._try_later(letters)
        elif len(letters) > 1:  # one of them may be to blame
            self._failed(what)
            for letter in letters:
                letter.alone = True
        else:
            self._give_up(letters[0], what)

    async def _crashed(self, letters: list[Letter], error: Exception) -> None:
        self._failed(f"the notifier failed: {describe(error)}")
        self._log.debug("notifier failed", exc_info=error)
        await self._close()
        self._notifier = self._made()
        for letter in letters:
            letter.alone = True
        self._pause(None)
        self._try_later(letters)

    def _pause(self, after: float | None) -> None:
        ceiling = min(_FIRST * 2 ** min(self._failures, 16), _LONGEST)
        self._failures += 1
        pause = max(random.uniform(0, ceiling), after or 0.0)  # noqa: S311 - spreads retries, guards nothing
        self._not_before = asyncio.get_running_loop().time() + pause

    def _try_later(self, letters: list[Letter]) -> None:
        for letter in letters:
            letter.attempts += 1
            if self._age(letter) > self._config.retry_for:
                self._give_up(letter, "it could not be told for too long")

    def _age(self, letter: Letter) -> float:
        """Seconds since it was accepted; the wall clock, which may be set, is only asked of an earlier process's."""
        if math.isinf(letter.arrived):
            return self._wall() - letter.accepted
        return asyncio.get_running_loop().time() - letter.arrived

    def _give_up(self, letter: Letter, why: str) -> None:
        self.box.drop(letter)
        self._given_up += 1
        self._failed(f"given up: {letter.alert.state} '{letter.alert.rule}': {why}")

    def _failed(self, what: str) -> None:
        self._errors += 1
        what = " ".join(self._mask(what).split())
        self._last_error = what
        if what != self._trouble:
            self._trouble = what
            self._log.warning("%s", what)

    async def _beat(self) -> None:
        try:
            async with asyncio.timeout(self._config.timeout + _MARGIN):
                await self._open()
                await self._notifier.beat()
        except (TimeoutError, Undelivered, CheckError) as error:
            self._failed(str(error) or f"no answer within {self._config.timeout:g}s")
        except Exception as error:
            self._failed(f"the notifier failed: {describe(error)}")
            await self._close()
            self._notifier = self._made()
        else:
            if self._trouble and not len(self.box):
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

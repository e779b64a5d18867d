"""Puts what is told and what is kept into an order that a kill at any moment leaves sound."""

from __future__ import annotations

import asyncio
import logging
from collections import ChainMap, Counter, deque
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.memory import ALERT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from vedette.alerts.teller import Tell
    from vedette.notifier import Alert
    from vedette.state import StateStore

log = logging.getLogger("vedette.alerts")

_PATIENCE: Final = 2.0
"""Seconds that an alert waits at most for the disk: people must hear though it hangs."""


class Post:
    """What the engine keeps and tells, one after the other: an alert is handed on once what came before it is kept.

    Args:
        state: where what outlasts a restart is kept.
        save: stores a value where the next owner of an instance finds it.
        tell: hands an alert to the notifiers; None tells nobody.
    """

    def __init__(
        self, state: StateStore, save: Callable[[str, str, Any], Awaitable[bool]], tell: Tell | None = None
    ) -> None:
        self._state = state
        self._save = save
        self._tell = tell
        self._waiting: deque[tuple[str, Callable[[], None]]] = deque()
        self._held: Counter[str] = Counter()
        self._pending: dict[str, dict[str, Any]] = {}
        self._unsaved: set[str] = set()
        self._saving: set[asyncio.Task[None]] = set()
        self._pump: asyncio.Task[None] | None = None

    def view(self, instance: str) -> Mapping[str, Any]:
        """What an instance has, as if all that waits were kept already; None is what will be deleted."""
        pending, kept = self._pending.get(instance), self._state.view(instance)
        return ChainMap(pending, kept) if pending else kept  # type: ignore[arg-type]  # nobody writes to it

    def keep(self, instance: str, key: str, value: Any) -> None:
        """Have a value on disk soon."""
        self._then(instance, key, value, self._kept)

    def follow(self, instance: str, key: str, value: Any) -> None:
        """Have a value where the next owner of the instance finds it."""
        self._then(instance, key, value, self._followed)

    def tell(self, alert: Alert, names: Sequence[str]) -> None:
        """Have an alert told, once all that was kept before is on disk."""
        if self._tell is not None:
            tell = self._tell
            self._wait(f"{ALERT}{alert.key}", lambda: tell(alert, names))
            if self._pump is None or self._pump.done():
                self._pump = asyncio.get_running_loop().create_task(self._hand_on())

    async def close(self) -> None:
        """Hand on what is left; what is saved gets a moment."""
        if self._pump is not None:
            await self._pump
        if self._saving:
            await asyncio.wait(self._saving, timeout=1.0)

    def _then(self, instance: str, key: str, value: Any, write: Callable[[str, str, Any], None]) -> None:
        """Write at once, or after what is to be told of the same incident."""
        if key in self._held:
            self._pending.setdefault(instance, {})[key] = value
            self._wait(key, lambda: write(instance, key, value))
        else:
            write(instance, key, value)

    def _wait(self, key: str, act: Callable[[], None]) -> None:
        self._held[key] += 1
        self._waiting.append((key, act))

    def _kept(self, instance: str, key: str, value: Any) -> None:
        self._state.apply(instance, ((key, value),))
        self._unsaved.add(instance)

    def _followed(self, instance: str, key: str, value: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._saved(instance, key, value))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _saved(self, instance: str, key: str, value: Any) -> None:
        await self._save(instance, key, value)

    async def _hand_on(self) -> None:
        while self._waiting:
            number = len(self._waiting)
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._settled()
            except TimeoutError:
                log.warning("alerts are told before they are kept: the state is not written within %g s", _PATIENCE)
            for _ in range(number):
                key, act = self._waiting.popleft()
                try:
                    act()
                except Exception:
                    log.exception("a fault in vedette itself: an alert is not told")
                self._done(key)

    def _done(self, key: str) -> None:
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
            for pending in self._pending.values():
                pending.pop(key, None)

    async def _settled(self) -> None:
        """Wait until what was kept is on disk; not while the disk refuses."""
        unsaved, self._unsaved = self._unsaved, set()
        for instance in unsaved:
            await self._state.settled(instance)
        if self._saving:
            await asyncio.wait(set(self._saving))

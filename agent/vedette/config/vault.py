"""Floor 2: what resolver plugins answered, for as long as it holds; a running agent keeps one vault through reloads."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, Final

from vedette.config.problems import one_line
from vedette.errors import VedetteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vedette.secrets import Masker

RESOLVER_TIMEOUT: Final = 10.0
"""Seconds that one resolver may take for one reference."""
_FIRST_RETRY: Final = 5.0
_LONGEST_RETRY: Final = 300.0

Key = tuple[str, str]
"""Name of the resolver, and the reference."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who resolves the references of a scheme.

    Attributes:
        plugin: the resolver's class.
        config: its options; None for a class that has none.
    """

    plugin: type[Any]
    config: Any = None

    def make(self) -> Any:
        """A resolver, for one round of questions."""
        return self.plugin() if self.config is None else self.plugin(self.config)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of one reference.

    Attributes:
        source: who was asked.
        value: the last good answer; None if there was none yet.
        trouble: why the last question had no answer; empty if it had.
        due: monotonic seconds from which on to ask again.
        reload_due: likewise, where a reload asks anyway.
        failures: questions without an answer since the last good one.
    """

    source: Source
    value: str | None
    trouble: str = ""
    due: float = inf
    reload_due: float = inf
    failures: int = 0


class Vault:
    """Asks resolver plugins, and keeps their answers; where one fails, the last good answer stays.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: dict[Key, Answer] = {}
        self._masker: Masker | None = None

    def __getitem__(self, key: Key) -> Answer:
        return self._answers[key]

    @property
    def next_due(self) -> float:
        """Seconds until something is to be asked again; infinite if nothing is."""
        return min((answer.due for answer in self._answers.values()), default=inf) - self._clock()

    @property
    def waiting(self) -> bool:
        """Whether there is a reference without any value yet, which is asked for again."""
        return any(answer.value is None for answer in self._answers.values())

    def ask(self, wanted: Mapping[Key, Source], masker: Masker) -> None:
        """Have an answer to just these, all that do not hold any more asked at once. Blocking.

        Args:
            wanted: the references, and who resolves each.
            masker: learns the values.
        """
        now = self._clock()
        known = {key: self._answers[key] for key in wanted if key in self._answers}
        self._answers = {key: answer for key, answer in known.items() if answer.source == wanted[key]}
        self._masker = masker
        stale = [key for key in wanted if key not in self._answers or self._answers[key].reload_due <= now]
        self._renew({key: wanted[key] for key in stale})

    def expire(self) -> None:
        """Let no answer hold any longer: the next question about each is asked of its resolver."""
        now = self._clock()
        self._answers = {key: replace(answer, reload_due=now) for key, answer in self._answers.items()}

    def refresh(self) -> bool:
        """Ask again for what is due. Blocking.

        Returns:
            Whether anything is different now: a value, or that there is none.
        """
        now = self._clock()
        due = {key: answer.source for key, answer in self._answers.items() if answer.due <= now}
        before = [(self._answers[key].value, self._answers[key].trouble) for key in due]
        self._renew(due)
        return before != [(self._answers[key].value, self._answers[key].trouble) for key in due]

    def _renew(self, wanted: Mapping[Key, Source]) -> None:
        if wanted:
            self._answers |= asyncio.run(self._ask(wanted))

    async def _ask(self, wanted: Mapping[Key, Source]) -> dict[Key, Answer]:
        schemes = {scheme: source for (scheme, _), source in wanted.items()}
        rounds = [
            self._round(scheme, source, [key for key in wanted if key[0] == scheme])
            for scheme, source in schemes.items()
        ]
        return {key: answer for answers in await asyncio.gather(*rounds) for key, answer in answers}

    async def _round(self, scheme: str, source: Source, keys: Sequence[Key]) -> list[tuple[Key, Answer]]:
        """One round of questions to one resolver."""
        try:
            resolver = source.make()
            said = await asyncio.gather(*(self._one(resolver, scheme, name) for _, name in keys))
            if hasattr(resolver, "close"):
                async with asyncio.timeout(RESOLVER_TIMEOUT):
                    await resolver.close()
            lasts = float(getattr(resolver, "lasts", 0.0))
        except Exception as error:
            said, lasts = [(None, f"'{scheme}' failed ({type(error).__name__})")] * len(keys), 0.0
        return [(key, self._answer(key, source, *each, lasts)) for key, each in zip(keys, said, strict=True)]

    async def _one(self, resolver: Any, scheme: str, name: str) -> tuple[str | None, str]:
        """The value behind a reference, or why there is none."""
        try:
            async with asyncio.timeout(RESOLVER_TIMEOUT):
                value = await resolver.resolve(name)
        except TimeoutError:
            return None, f"'{scheme}' did not answer within {RESOLVER_TIMEOUT:g}s"
        except VedetteError as error:
            return None, one_line(self._masker(str(error)) if self._masker else str(error))
        except Exception as error:
            return None, f"'{scheme}' failed ({type(error).__name__})"
        return (value, "") if isinstance(value, str) else (None, f"'{scheme}' did not answer with text")

    def _answer(self, key: Key, source: Source, value: str | None, trouble: str, lasts: float) -> Answer:
        now, before = self._clock(), self._answers.get(key)
        if value is not None:
            if self._masker is not None:
                self._masker.add(value)
            return Answer(source, value, due=now + lasts if lasts else inf, reload_due=now + lasts)
        failures = before.failures + 1 if before is not None else 1
        pause = min(_FIRST_RETRY * 2 ** min(failures - 1, 10), _LONGEST_RETRY)
        due = now + pause * random.uniform(0.8, 1.0)  # noqa: S311 - agents that started together spread out
        value = before.value if before is not None else None
        return Answer(source, value, trouble, due, now + _FIRST_RETRY, failures)

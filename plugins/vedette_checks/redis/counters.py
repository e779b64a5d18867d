"""Dashboard counters: numbers that an application keeps in Redis, read exactly and reported as metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Any

from vedette import Emit
from vedette_checks.redis.config import CounterConfig
from vedette_checks.redis.findings import Advisor, Finding
from vedette_checks.redis.session import Command

_AHEAD = 60.0  # seconds by which a writer's clock may differ; a score beyond would count for longer than its window
_NUMBER = re.compile(rb"[+-]?(?:\d{1,40}(?P<float>\.\d{0,40})?|(?P<point>\.\d{1,40}))(?P<exponent>[eE][+-]?\d{1,2})?")

_AHEAD = 60.0  # seconds that the clocks of writers may be ahead; a score beyond that would count for ever


def exact(text: bytes, scale: int = 0) -> int | Decimal | None:
    """The number in a value, its decimal point moved `scale` places to the left; None if it is not a number.

    Nothing is rounded: an integer stays one (unless scaled), anything else is a Decimal.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    if scale == 0 and match.lastgroup is None:
        return int(text)
    sign, digits, exponent = Decimal(text.decode()).as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - the pattern admits neither infinities nor NaN
    return Decimal((sign, digits, exponent - scale))  # scaleb() would round to the context's precision


class Counter:
    """One counter of a configuration, ready to be read at each run.

    Args:
        config: its options.
        instance_tags: the instance's own tags, for `{tag:…}` fields.
        zone: time zone of `{%…}` fields.
    """

    def __init__(self, config: CounterConfig, instance_tags: tuple[str, ...], zone: tzinfo) -> None:
        self.config = config
        self._template = config.template(instance_tags)
        self._zone = zone
        self._reads_text = config.read in ("get", "hget")
        self._asks_exists = not self._reads_text and config.missing is None

    def commands(self, now: float) -> Iterator[Command]:
        """The command or two that read it; `now` in Unix seconds decides the key and the window.

        The sizes that Redis gives are 0 for a missing key too, so that only EXISTS tells an empty one apart.
        """
        config = self.config
        key = self._template.render(datetime.fromtimestamp(now, self._zone))
        if config.window is not None:
            yield ("ZCOUNT", key, f"({now - config.window:.6f}", f"{now + _AHEAD:.6f}")
        elif config.field is not None:
            yield ("HGET", key, config.field)
        else:
            yield (config.read.upper(), key)
        if self._asks_exists:
            yield ("EXISTS", key)

    def take(self, replies: Iterator[Any], emit: Emit, tags: tuple[str, ...], advisor: Advisor) -> Finding | None:
        """Take this counter's replies and emit its value; returns what was wrong, if anything."""
        config = self.config
        reply = next(replies)
        exists = next(replies) if self._asks_exists else 1
        for command, answer in ((config.read, reply), ("exists", exists)):
            if isinstance(answer, Exception):
                why = advisor.refusal(answer, command, self._template.glob)
                return Finding(f"{self}: {why.message}", why.hint)
        value: int | Decimal | None
        if reply is None or not exists:
            value = config.missing
        elif self._reads_text:
            value = exact(reply, config.scale)
            if value is None:
                return Finding(f"{self}: the value is not a number", "check `key` and `read`")
        else:
            value = exact(b"%d" % reply, config.scale)
        if value is not None:
            getattr(emit, config.kind)(config.metric, value, (*tags, *config.tags))
        return None

    def __str__(self) -> str:
        return f"{self.config.metric} ({self.config.read} {self._template.text})"

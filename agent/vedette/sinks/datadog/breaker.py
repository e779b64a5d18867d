"""When to try again: a breaker for each endpoint, full jitter, and what Retry-After says."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

_FIRST = 2.0
_LONGEST = 64.0
_LONGEST_ASKED = 600.0


class Breaker:
    """Closed while an endpoint works; opened by a failure, for a while; then one request may probe it.

    The pause is drawn evenly from 0 to a ceiling that doubles with each failure, so that agents which an outage has
    brought into step part again. Source: AWS Architecture Blog, "Exponential Backoff And Jitter" (full jitter).
    """

    def __init__(self) -> None:
        self.failures = 0
        """Failures since the last success."""

    @property
    def probing(self) -> bool:
        """Whether the next request is a probe."""
        return self.failures > 0

    def failed(self, asked: float | None = None) -> float:
        """Open it; returns for how many seconds.

        Args:
            asked: the least that the server asks for.
        """
        ceiling = min(_FIRST * 2 ** min(self.failures, 16), _LONGEST)
        self.failures += 1
        pause = random.uniform(0, ceiling)  # noqa: S311 - spreads retries, guards nothing
        return max(pause, min(asked or 0.0, _LONGEST_ASKED))

    def worked(self) -> None:
        """Close it."""
        self.failures = 0


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, be it a number or a date, at most 600; None if it is neither.

    Args:
        value: the header.
        now: Unix seconds; None is the present.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        moment = http_date(value)
        if moment is None:
            return None
        seconds = moment - (time.time() if now is None else now)
    return min(max(0.0, seconds), _LONGEST_ASKED) if isfinite(seconds) else None


def http_date(value: str | None) -> float | None:
    """Unix seconds of a date in a header; None if it is none."""
    try:
        moment = parsedate_to_datetime(value or "")
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return datetime.timestamp(moment)
    except (ValueError, OverflowError, TypeError, IndexError):  # a year or a zone that no calendar has
        return None

"""When to try again: a breaker for each endpoint, and full jitter."""

from __future__ import annotations

import random

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

"""What a flow costs the servers: for `vedette plan`."""

from __future__ import annotations

from collections.abc import Iterator

from vedette import Estimate
from vedette_checks.synthetic.config import SyntheticConfig

_DAY = 86_400.0


def estimate(config: SyntheticConfig) -> Iterator[Estimate]:
    """Requests of a flow and of a day, if all goes well at the first try and redirects nowhere."""
    requests = len(config.flow) + len(config.cleanup)
    polls = any(step.until is not None for step in config.flow)
    hint = "more where a step with `until` has to ask again" if polls else ""
    yield Estimate("requests per run", requests, "requests", hint)
    if config.cadence:
        yield Estimate("requests per day", requests * _DAY / config.cadence, "requests/day")

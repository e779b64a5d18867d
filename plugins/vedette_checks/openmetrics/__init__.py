"""The openmetrics check: any Prometheus endpoint, counters and histograms kept as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vedette import Check, CheckError, Estimate, Kind, Metric, Status, hookimpl
from vedette.kit import cut_text, given
from vedette_checks.exposition import Exposed, exposed
from vedette_checks.openmetrics.config import OpenMetricsConfig
from vedette_checks.openmetrics.scrape import Page, Scraper

if TYPE_CHECKING:
    from vedette import Diagnosis, Emit

__all__ = ["OpenMetrics", "OpenMetricsConfig", "register_checks"]

_HEALTH = "openmetrics.health"
_SMALL = 20_000
"""Bytes up to which an answer is read on the loop itself: some ten milliseconds."""
_OPERATORS_OWN = ("token", "username", "password", "headers", "max_body", "verify")


class OpenMetrics(Check[OpenMetricsConfig]):
    """Reads what Prometheus would: an endpoint in its text format or in OpenMetrics."""

    name = "openmetrics"
    metrics = (
        Metric("openmetrics.samples", Kind.GAUGE, help="Samples of the last answer that were emitted."),
        Metric("openmetrics.bytes", Kind.GAUGE, unit="byte", help="Its size, unpacked."),
    )
    statuses = (_HEALTH,)
    open_names = True

    @classmethod
    def reaches(cls, config: OpenMetricsConfig) -> Iterable[str]:
        """The one host: no redirect is followed."""
        if refused := given(config, _OPERATORS_OWN):
            raise ValueError(f"only the operator may set {', '.join(refused)}")
        return (urlsplit(config.url).hostname or "",)

    async def open(self) -> None:
        """Read the certificate files."""
        self._scraper = Scraper(self.config)
        self._tags: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._read = 0

    async def run(self, emit: Emit) -> None:
        """Ask once, and emit what it says.

        Raises:
            CheckError: it cannot be reached, or answers something else.
        """
        try:
            page = await self._scraper.scrape()
            found = _read(page) if len(page.body) <= _SMALL else await asyncio.to_thread(_read, page)
        except CheckError as error:
            emit.status(_HEALTH, Status.CRITICAL, error.message)
            raise
        except asyncio.CancelledError:
            emit.status(_HEALTH, Status.CRITICAL, "the endpoint does not answer in time")
            raise
        self._read = len(page.body)
        number = sum(self._emit(emit, one) for one in found)
        emit.gauge("openmetrics.samples", number)
        emit.gauge("openmetrics.bytes", len(page.body))
        emit.status(_HEALTH, Status.OK)

    async def estimate(self) -> Iterable[Estimate]:
        """What the endpoint sends."""
        return [Estimate("bytes of answers per day", self._read * 86_400 / (self.config.cadence or 60), "bytes/day")]

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Is it reached, is its certificate good, and are these metrics?"""
        from vedette_checks.openmetrics.doctor import diagnose

        await diagnose(self.config, diagnosis)

    async def close(self) -> None:
        """Hang up."""
        if hasattr(self, "_scraper"):
            await self._scraper.close()

    def _emit(self, emit: Emit, one: Exposed) -> bool:
        config = self.config
        if not config.buckets and one.name.endswith(".bucket") and one.kind is Kind.COUNTER:
            return False
        name, tags = config.prefix + one.name.replace(":", "_"), one.tags
        if config.exclude_labels or config.rename_labels:
            tags = self._labelled(tags)
        time = one.time if config.timestamps else None
        (emit.counter if one.kind is Kind.COUNTER else emit.gauge)(name, one.value, tags, time)
        return True

    def _labelled(self, tags: tuple[str, ...]) -> tuple[str, ...]:
        """The tags without the labels that are left out, the others under their new names."""
        try:
            return self._tags[tags]
        except KeyError:
            if len(self._tags) >= _SMALL:
                self._tags.clear()
        pairs = [tag.partition(":")[::2] for tag in tags]
        kept = ((key, value) for key, value in pairs if key not in self.config.exclude_labels)
        made = self._tags[tags] = tuple(f"{self.config.rename_labels.get(key, key)}:{value}" for key, value in kept)
        return made


def _read(page: Page) -> list[Exposed]:
    text = page.body.decode("utf-8", "replace")
    try:
        return exposed(text, openmetrics=page.openmetrics)
    except ValueError as error:
        why = cut_text(str(error), 200)
        raise CheckError(f"the answer is no exposition of metrics: {why}", hint="is this the path?") from error


@hookimpl
def register_checks(register: Callable[[type[OpenMetrics]], None]) -> None:
    """Offer the openmetrics check."""
    register(OpenMetrics)

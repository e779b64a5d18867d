"""The openmetrics check: any Prometheus endpoint, counters and histograms kept as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from threading import Event
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vedette import Check, CheckError, Estimate, Kind, Metric, Status, hookimpl
from vedette.kit import cut_text, given
from vedette_checks.exposition import Exposed, Exposition, exposed
from vedette_checks.openmetrics.config import OpenMetricsConfig
from vedette_checks.openmetrics.scrape import Page, Scraper

if TYPE_CHECKING:
    from vedette import Diagnosis, Emit

__all__ = ["OpenMetrics", "OpenMetricsConfig", "register_checks"]

_HEALTH = "openmetrics.health"
_SMALL = 20_000
"""Bytes up to which an answer is read on the loop itself: some ten milliseconds."""
_AT_ONCE = 500
"""Samples that are emitted before others have the loop."""
_OPERATORS_OWN = ("token", "username", "password", "headers", "max_body", "max_samples", "verify")


class OpenMetrics(Check[OpenMetricsConfig]):
    """Reads what Prometheus would: an endpoint in its text format or in OpenMetrics."""

    name = "openmetrics"
    metrics = (
        Metric("openmetrics.samples", Kind.GAUGE, help="Samples of the last answer that were emitted."),
        Metric("openmetrics.bytes", Kind.GAUGE, unit="byte", help="Its size, unpacked."),
        Metric("openmetrics.cut", Kind.GAUGE, unit="sample", help="Samples beyond `max_samples`; absent if none."),
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
        """Nothing is known yet; certificate files are read by a run, which can say that they are bad."""
        self._scraper: Scraper | None = None
        self._tags: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._read = 0
        self._told = False

    async def run(self, emit: Emit) -> None:
        """Ask once, and emit what it says.

        Raises:
            CheckError: it cannot be reached, or answers something else.
        """
        late = "the endpoint does not answer in time"
        try:
            self._scraper = self._scraper or Scraper(self.config)
            page = await self._scraper.scrape()
            late = "there was no time to read the whole answer"
            found = await _read(page, self.config.max_samples)
            self._read = len(page.body)
            await self._report(emit, found)
        except CheckError as error:
            emit.status(_HEALTH, Status.CRITICAL, error.message)
            raise
        except asyncio.CancelledError:
            emit.status(_HEALTH, Status.CRITICAL, late)
            raise
        emit.gauge("openmetrics.bytes", len(page.body))
        empty = not page.body.strip()
        emit.status(_HEALTH, Status.WARNING if empty else Status.OK, "the answer is empty" if empty else "")

    async def estimate(self) -> Iterable[Estimate]:
        """What the endpoint sends."""
        return [Estimate("bytes of answers per day", self._read * 86_400 / (self.config.cadence or 60), "bytes/day")]

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Is it reached, is its certificate good, and are these metrics?"""
        from vedette_checks.openmetrics.doctor import diagnose

        await diagnose(self.config, diagnosis)

    async def close(self) -> None:
        """Hang up."""
        if self._scraper is not None:
            await self._scraper.close()

    async def _report(self, emit: Emit, found: Exposition) -> None:
        number = 0
        for place, one in enumerate(found.samples, 1):
            number += self._emit(emit, one)
            if place % _AT_ONCE == 0:
                await asyncio.sleep(0)
        emit.gauge("openmetrics.samples", number)
        if found.cut:
            emit.gauge("openmetrics.cut", found.cut)
            if not self._told:
                self.log.warning("the answer has %s samples beyond max_samples: they are cut", f"{found.cut:,}")
        self._told = found.cut > 0

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


async def _read(page: Page, most: int) -> Exposition:
    """Its samples: of a long answer in a thread, which stops with the run."""
    stop = Event()
    try:
        if len(page.body) <= _SMALL:
            return exposed(page.body, openmetrics=page.openmetrics, most=most)
        return await asyncio.to_thread(exposed, page.body, openmetrics=page.openmetrics, most=most, stop=stop)
    except ValueError as error:
        why = cut_text(str(error), 200)
        raise CheckError(f"the answer is no exposition of metrics: {why}", hint="is this the path?") from error
    finally:
        stop.set()


@hookimpl
def register_checks(register: Callable[[type[OpenMetrics]], None]) -> None:
    """Offer the openmetrics check."""
    register(OpenMetrics)

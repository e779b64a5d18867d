"""`/metrics`: the agent's own metrics for Prometheus, under the names that its sinks give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from vedette.kit import PromNames
from vedette.metrics import Kind
from vedette.report import METRICS, SelfReport
from vedette.secrets import Masker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette.control import Operations


class Exposition:
    """Makes the page of the agent's own metrics and of its process.

    Args:
        operations: the agent.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._report = SelfReport((), "", 0.0, Masker())
        self._names = PromNames()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def page(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type, in the format that the scraper accepts."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> list[Family]:
        """Nothing: the registry then does not ask for everything at once when it is made."""
        return []

    def collect(self) -> Iterator[Family]:
        """The families, as prometheus_client asks for them."""
        snapshot = self._operations.snapshot()  # copies: the report below may reset what it likes
        batch = self._report.batch(
            snapshot.instances,
            snapshot.sinks,
            snapshot.state_errors,
            snapshot.problems,
            fleet=snapshot.fleet,
            alerts=snapshot.alerts,
        )
        families = {}
        for metric in METRICS:
            kind = "counter" if metric.kind is Kind.COUNTER else "gauge"
            families[metric.name] = Family(self._names.metric(metric.name), metric.help, kind)
        for sample in batch.samples:
            family = families[sample.name]
            suffix = "_total" if sample.kind is Kind.COUNTER else ""
            family.add_sample(f"{family.name}{suffix}", dict(self._names.labels(sample.tags)), float(sample.value))  # type: ignore[arg-type]
        yield from families.values()

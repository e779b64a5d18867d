"""Sink `prometheus`: a page for Prometheus to scrape, served by this agent itself.

Formats: Prometheus text exposition 0.0.4 and OpenMetrics 1.0, written and negotiated by `prometheus_client`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import anyio
import anyio.to_thread
from prometheus_client.exposition import make_wsgi_app
from pydantic import Field, field_validator

from vedette import Batch, Diagnosis, Duration, Sink, SinkConfig, hookimpl
from vedette.kit import ListenOptions
from vedette.sinks.prometheus.doctor import look_at_address
from vedette.sinks.prometheus.server import Certificate, Server, safely, with_password
from vedette.sinks.prometheus.store import Store

_BUCKETS = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000)


class PrometheusConfig(ListenOptions, SinkConfig):
    """Options of the `prometheus` sink."""

    listen: str = Field(
        "127.0.0.1:9464",
        description="Address and port of the page; port 0 takes a free one.",
        examples=["0.0.0.0:9464", "[::]:9464"],
    )
    buckets: tuple[float, ...] = Field(
        _BUCKETS,
        min_length=1,
        description="Upper bounds of the buckets of histograms and distributions, in the metric's own unit.",
    )
    set_window: Duration = Field(60.0, gt=0, description="Time over which the distinct members of a set are counted.")

    @field_validator("buckets")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in pairwise(value)) or value[-1] == float("inf"):
            raise ValueError("must be ascending and finite")
        return value


class PrometheusSink(Sink[PrometheusConfig]):
    """Keeps the newest state of every series; scrapes read it from a thread of their own."""

    name = "prometheus"

    def __init__(self, config: PrometheusConfig) -> None:
        super().__init__(config)
        self.url = ""
        """Where the page is while it is served."""
        self._store = Store(config.buckets, config.set_window, self.catalog, self.log.warning)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Whether the address can be had, or is this sink's already."""
        try:
            tls = self.config.tls()
        except OSError as error:
            diagnosis.failed("certificate", str(error.strerror), "see tls_cert and tls_key")
            return
        await anyio.to_thread.run_sync(look_at_address, self.config, tls is not None, diagnosis)

    async def run(self, batches: AsyncIterator[Batch]) -> None:
        """Serve the page until the agent stops.

        Raises:
            OSError: the address cannot be had; the text names it.
        """
        server = await anyio.to_thread.run_sync(self._serve)
        self.url = server.url
        self.log.info("serving %s", self.url)
        self.recovered()
        try:
            async for batch in batches:
                self.lost += self._store.add(batch)
        finally:
            self.url = ""
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(server.stop)

    def _serve(self) -> Server:
        config = self.config
        app = safely(make_wsgi_app(self._store), self.log)
        if config.password is not None:
            app = with_password(app, config)
        try:
            return Server(config.address, app, Certificate(config, self.log), self.log)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {config.listen}: {error.strerror or error}") from None


@hookimpl
def register_sinks(register: Any) -> None:
    """Register the sink."""
    register(PrometheusSink)

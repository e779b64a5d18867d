"""A port and metrics that go to it, for one test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sinks.parts import Port
from vedette.instrument import BusinessMetrics, TechnicalMetrics, client
from vedette.instrument.client import shared_client
from vedette.instrument.outlet import shared_outlet

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tags and targets from the machine that the tests run on."""
    for name in (
        "DD_AGENT_HOST", "DD_DOGSTATSD_PORT", "DD_DOGSTATSD_URL", "DD_ENV", "DD_SERVICE", "DD_VERSION", "DD_TAGS",
        "DATADOG_TAGS", "DD_ENTITY_ID", "ENVIRONMENT", "APP_VERSION", "DD_DOGSTATSD_DISABLE",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def read_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools and queues are read without waiting for a second."""
    monkeypatch.setattr(client, "_FIRST_READ", 0.1)


@pytest.fixture
def port() -> Iterator[Port]:
    with Port() as made:
        yield made


class Made:
    """Makes metrics, and closes their clients after the test."""

    def __init__(self) -> None:
        self._made: list[Any] = []

    def business(self, port: Port, **options: Any) -> BusinessMetrics:
        return self._keep(BusinessMetrics(**_target(port), **options))

    def technical(self, port: Port, **options: Any) -> TechnicalMetrics:
        return self._keep(TechnicalMetrics(**_target(port), **options))

    def _keep(self, metrics: Any) -> Any:
        self._made.append(metrics)
        return metrics

    def close(self) -> None:
        for metrics in self._made:
            metrics.close(5.0)
        shared_outlet.cache_clear()  # another test may be given the same port
        shared_client.cache_clear()


def _target(port: Port) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port.number} if port.number else {"socket_path": str(port._path)}


@pytest.fixture
def made() -> Iterator[Made]:
    makes = Made()
    yield makes
    makes.close()


@pytest.fixture
def business(port: Port, made: Made) -> BusinessMetrics:
    return made.business(port)


@pytest.fixture
def technical(port: Port, made: Made) -> TechnicalMetrics:
    return made.technical(port)

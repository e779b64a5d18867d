"""The rabbitmq check: queues, exchanges, nodes and connections of RabbitMQ, by its management plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from vedette import Check, CheckError, Estimate, Status, hookimpl
from vedette.kit import given
from vedette_checks.rabbitmq.api import Api
from vedette_checks.rabbitmq.config import RabbitMQConfig
from vedette_checks.rabbitmq.names import METRICS
from vedette_checks.rabbitmq.survey import ALIVE, CLUSTER, FOUND, QUEUE_STATUS, Memory, Survey

if TYPE_CHECKING:
    from vedette import Diagnosis, Emit

__all__ = ["RabbitMQ", "RabbitMQConfig", "register_checks"]

STATUS: Final = "rabbitmq.status"
COMPLETE: Final = "rabbitmq.complete"
_OPERATORS_OWN: Final = (
    *("username", "password", "verify", "queues_regex", "exchanges_regex", "bindings", "max_body"),
    *("max_queues", "max_exchanges", "max_vhosts", "max_connections"),
)


class RabbitMQ(Check[RabbitMQConfig]):
    """Asks RabbitMQ's management plugin for queues, exchanges, nodes and connections, in some six requests."""

    name = "rabbitmq"
    metrics = METRICS
    statuses = (STATUS, ALIVE, CLUSTER, QUEUE_STATUS, FOUND, COMPLETE)
    _api: Api | None = None

    @classmethod
    def reaches(cls, config: RabbitMQConfig) -> Iterable[str]:
        """The one host: no redirect is followed."""
        if refused := given(config, _OPERATORS_OWN):
            raise ValueError(f"only the operator may set {', '.join(refused)}")
        return (config.place[0],)

    async def open(self) -> None:
        """Begin without a connection."""
        self._memory = Memory(vhosts=self.config.vhosts)

    async def run(self, emit: Emit) -> None:
        """Ask once.

        Raises:
            CheckError: there is no talking to the server.
        """
        api = self._api = self._api or self._made(emit)
        api.begin()
        survey = Survey(self.config, api, emit, self._memory)
        try:
            await survey.take()
        except CheckError as error:
            self._lost(emit, error.message)
            raise
        except asyncio.CancelledError:
            self._lost(emit, "the server does not answer in time")
            raise
        emit.status(STATUS, Status.OK)
        emit.status(COMPLETE, Status.WARNING if survey.notes else Status.OK, "; ".join(survey.notes))
        emit.gauge("rabbitmq.api.requests", api.requests)
        emit.gauge("rabbitmq.api.bytes", api.bytes)

    async def estimate(self) -> Iterable[Estimate]:
        """What is asked of the server."""
        if self._api is None:
            return []
        runs = 86_400 / (self.config.cadence or 60)
        return [
            Estimate("requests to RabbitMQ per day", self._api.requests * runs, "requests/day"),
            Estimate("bytes of answers per day", self._api.bytes * runs, "bytes/day"),
        ]

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Is it reached, may the user ask, and what does it see?"""
        from vedette_checks.rabbitmq.doctor import diagnose

        await diagnose(self.config, diagnosis)

    async def close(self) -> None:
        """Hang up."""
        if self._api is not None:
            await self._api.close()

    def _made(self, emit: Emit) -> Api:
        """The API; where our own files are at fault, nothing is known of the server."""
        try:
            return Api(self.config)
        except CheckError as error:
            emit.status(STATUS, Status.UNKNOWN, error.message)
            raise

    def _lost(self, emit: Emit, why: str) -> None:
        """Vhosts that were alive are not known to be so any more."""
        emit.status(STATUS, Status.CRITICAL, why)
        for name in self._memory.vhosts:
            emit.status(ALIVE, Status.CRITICAL, why, (f"vhost:{name}",))


@hookimpl
def register_checks(register: Callable[[type[RabbitMQ]], None]) -> None:
    """Offer the rabbitmq check."""
    register(RabbitMQ)

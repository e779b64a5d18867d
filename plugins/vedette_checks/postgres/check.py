"""The check itself: one visit a run, under a deadline."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

import asyncpg

from vedette import Check, CheckError, Emit, Metric, Status
from vedette_checks.postgres.blocking import STATUS, Blocking
from vedette_checks.postgres.config import PostgresConfig
from vedette_checks.postgres.findings import Finding, failure
from vedette_checks.postgres.queries import Queries
from vedette_checks.postgres.relations import Relations
from vedette_checks.postgres.session import LOST, Session, StuckError
from vedette_checks.postgres.statements import Statements
from vedette_checks.postgres.views import METRICS, Defaults
from vedette_checks.postgres.visit import Memory, Part, Visit


class Postgres(Check[PostgresConfig]):
    """Watches one PostgreSQL server."""

    name = "postgres"
    metrics = (*METRICS, *Blocking.metrics, *Relations.metrics, *Statements.metrics)
    statuses = ("postgres.can_connect", "postgres.reads", STATUS)

    @classmethod
    def declare(cls, config: PostgresConfig) -> Iterable[Metric]:
        """The metrics of the parts that are switched on."""
        return [metric for part in _parts(config) for metric in part.metrics]

    @classmethod
    def lint(cls, config: PostgresConfig) -> Iterable[str]:
        """Warns of a password that travels in the clear."""
        target = config.target
        if target.sslmode == "disable" and config.password is not None:
            yield "sslmode is disable: whoever listens on the way can read what is sent"

    def __init__(self, config: PostgresConfig, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._target = config.target
        self._patience = config.deadline * 0.9  # leaves the run time to say what is wrong
        self._parts = _parts(config)
        self._memory = Memory()
        self._session = Session(
            self._target,
            lock_timeout=config.lock_timeout,
            statement_timeout=config.statement_limit,
            pooled=config.pgbouncer,
        )
        self._place = (*self._target.tags, f"db:{self._target.dbname}")

    async def close(self) -> None:
        """Drop the connection."""
        self._session.close()

    async def run(self, emit: Emit) -> None:
        """Visit the server.

        Raises:
            CheckError: there is no talking to it.
        """
        session = self._session
        try:
            async with asyncio.timeout(self._patience):
                await session.connect(self._patience * 0.9)
                findings = await session.during(lambda: self._visit(emit))
        except StuckError as stuck:
            hint = "it is frozen or waits for its disk; no second connection is made meanwhile"
            message = f"the server process {stuck.pid} has not answered for {stuck.seconds:.0f}s"
            raise self._failed(emit, Finding(message, hint)) from None
        except (asyncpg.PostgresError, *LOST, OSError, ssl.SSLError) as error:
            raise self._explain(emit, error) from error
        emit.status("postgres.can_connect", Status.OK, tags=self._place)
        status = Status.WARNING if findings else Status.OK
        emit.status("postgres.reads", status, "; ".join(dict.fromkeys(map(str, findings))), self._place)

    async def _visit(self, emit: Emit) -> list[Finding]:
        visit = Visit(self._session, emit, self._memory)
        try:
            await visit.greet()
        except LOST:
            if self._session.fresh:
                raise
            self._session.close()  # it was restarted since the last run
            await self._session.connect(self._patience)
            await visit.greet()
        for part in self._parts:
            await part.collect(visit)
        return visit.findings

    def _explain(self, emit: Emit, error: BaseException) -> CheckError:
        session = self._session
        finding = failure(error, self._target, self._patience, greeted=session.greeted)
        if not (isinstance(error, TimeoutError) and session.greeted):
            session.close()  # a query in flight is waited for instead
        return self._failed(emit, finding)

    def _failed(self, emit: Emit, finding: Finding) -> CheckError:
        emit.status("postgres.can_connect", Status.CRITICAL, str(finding), self._place)
        return finding.error()


def _parts(config: PostgresConfig) -> list[Part]:
    parts: list[Part] = [Defaults(), Blocking(config.blocking_warning, config.blocking_critical)]
    if config.relations:
        parts.append(Relations(config.relations))
    if config.statements is not None:
        parts.append(Statements(config.statements))
    if config.queries:
        parts.append(Queries(config.queries))
    return parts

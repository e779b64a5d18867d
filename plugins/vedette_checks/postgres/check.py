"""The check itself: a run visits the instance's database, its replica at the same time, then the other databases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any, ClassVar

from vedette import Check, Diagnosis, Emit, Estimate, Metric, Status
from vedette.kit import given
from vedette_checks.postgres import blocking, replica
from vedette_checks.postgres.blocking import Blocking
from vedette_checks.postgres.config import PostgresConfig
from vedette_checks.postgres.database import BusyError, Database, UnreachableError
from vedette_checks.postgres.queries import Queries
from vedette_checks.postgres.relations import Relations
from vedette_checks.postgres.replica import Pair
from vedette_checks.postgres.session import Sessions
from vedette_checks.postgres.statements import Statements
from vedette_checks.postgres.tour import Tour
from vedette_checks.postgres.views import Defaults
from vedette_checks.postgres.visit import Part


class Postgres(Check[PostgresConfig]):
    """Watches one PostgreSQL server."""

    name = "postgres"
    metrics = (*Defaults.metrics, *Blocking.metrics, *Relations.metrics, *Statements.metrics, *Pair.metrics)
    statuses = ("postgres.can_connect", "postgres.reads", blocking.STATUS, replica.STATUS)
    _sessions: ClassVar[Sessions] = Sessions()
    """Connections that instances share, such as one whose `replica` is an instance of its own: the one thing that
    outlives an instance. It holds only what instances hold, and is empty once they are closed."""

    @classmethod
    def declare(cls, config: PostgresConfig) -> Iterable[Metric]:
        """The metrics of the parts that are switched on."""
        pair = Pair.metrics if config.replica is not None else ()
        return [*pair, *(metric for part in _parts(config) for metric in part.metrics)]

    @classmethod
    def lint(cls, config: PostgresConfig) -> Iterable[str]:
        """Warns of a password that travels in the clear."""
        targets = {"": config.target}
        if config.replica is not None:
            targets["replica: "] = config.replica.target(config.target)
        for which, target in targets.items():
            if target.sslmode == "disable" and target.has_password:
                yield f"{which}sslmode is disable: whoever listens on the way can read what is sent"

    @classmethod
    def reaches(cls, config: PostgresConfig) -> Iterable[str]:
        """The primary and its replica; nothing that libpq takes from the agent's environment or home goes along."""
        if limits := given(config, ("limit", "top", "rows")):
            raise ValueError(f"only the operator may set {', '.join(limits)}")
        targets = [config.target]
        if config.replica is not None:
            targets.append(config.replica.target(config.target))
        for target in targets:
            if target.ca_file or target.cert_file or target.key_file:
                raise ValueError("only the operator may name files of the agent's machine")
            if not target.username or not target.password:
                raise ValueError("needs username and password: the agent's own are not for everybody")
            if target.sslmode not in ("disable", "verify-ca", "verify-full"):
                raise ValueError(
                    "sslmode must be disable, verify-ca or verify-full: others use the agent's certificate"
                )
        return [target.host for target in targets]

    def __init__(self, config: PostgresConfig, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        target, limits, parts = config.target, config.limits, _parts(config)
        self._patience = config.deadline * 0.9  # leaves the run time to say what is wrong
        self._place = (*target.tags, f"db:{target.dbname}")
        shared = self._sessions
        self._tour: Tour | None = None
        if config.databases is not None:
            local = [part for part in parts if part.everywhere]
            self._tour = Tour(
                config.databases, lambda name: Database(target.at(name), limits, local, main=False, sessions=shared)
            )
            parts.insert(0, self._tour)
        self._pair: Pair | None = None
        if config.replica is not None:
            replica = Database(config.replica.target(target), limits, sessions=shared)
            self._pair = Pair(config.replica, target, replica)
            parts.insert(0, self._pair)
        self._home = Database(target, limits, parts, sessions=shared)

    async def close(self) -> None:
        """Drop all connections."""
        for one in (self._home, self._tour, self._pair):
            if one is not None:
                one.close()

    async def run(self, emit: Emit) -> None:
        """Visit the server.

        Raises:
            CheckError: there is no talking to it.
        """
        if self._pair is None:
            await self._visit(emit)
            return
        async with self._pair.watched(emit, self._patience):
            await self._visit(emit)

    async def estimate(self) -> Iterable[Estimate]:
        """Statements of a run, and what the server thinks that the user's queries cost."""
        from vedette_checks.postgres.costs import estimate

        return await estimate(self.config, self._home, self._tour, self._patience)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The way to the server and its replica, the login, and the rights that the configured parts need."""
        from vedette_checks.postgres.doctor import diagnose

        await diagnose(self.config, diagnosis)

    async def _visit(self, emit: Emit) -> None:
        until = monotonic() + self._patience
        try:
            visit = await self._home.visit(emit, self._patience)
        except BusyError as error:
            status = Status.OK if error.answered else Status.UNKNOWN  # whoever asks says what is wrong with the server
            emit.status("postgres.can_connect", status, "" if error.answered else str(error), self._place)
            emit.status("postgres.reads", Status.WARNING, str(error), self._place)
            raise error.finding.error() from error
        except UnreachableError as error:
            emit.status("postgres.can_connect", Status.CRITICAL, str(error), self._place)
            raise error.finding.error() from error
        emit.status("postgres.can_connect", Status.OK, tags=self._place)
        if self._tour is not None:
            await self._tour.go(visit, until)
        status = Status.WARNING if visit.findings else Status.OK
        emit.status("postgres.reads", status, "; ".join(dict.fromkeys(map(str, visit.findings))), self._place)


def _parts(config: PostgresConfig) -> list[Part]:
    parts: list[Part] = [Defaults(), Blocking(config.blocking_warning, config.blocking_critical)]
    if config.relations:
        parts.append(Relations(config.relations, alone=config.databases is None))
    if config.statements is not None:
        parts.append(Statements(config.statements))
    if config.queries:
        parts.append(Queries(config.queries, config.interval))
    return parts

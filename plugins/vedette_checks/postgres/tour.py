"""`databases:`, the databases of a server beside the instance's own: found by pattern, visited one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from time import monotonic

from pydantic import BaseModel, ConfigDict, Field

from vedette import Metric
from vedette_checks.postgres.database import Database, UnreachableError
from vedette_checks.postgres.findings import Finding
from vedette_checks.postgres.visit import Turns, Visit, spoken

_DATABASES = """
SELECT datname::text FROM pg_database
WHERE datallowconn AND NOT datistemplate AND datname <> current_database() ORDER BY datname
"""


class DatabasesConfig(BaseModel):
    """`databases:`, which other databases of the server to visit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include: tuple[str, ...] = Field(
        ("*",), description="Names, with `*`, `?` and `[a-z]`.", examples=[["shop_*"]], min_length=1
    )
    exclude: tuple[str, ...] = Field((), description="Names not to visit, though `include` has them.")
    limit: int = Field(50, description="Most databases to visit, in alphabetical order.", ge=1, le=1000)

    def choose(self, names: Sequence[str]) -> list[str]:
        """Those of these names that the patterns choose, however many."""
        return [name for name in names if _any(name, self.include) and not _any(name, self.exclude)]


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class Tour:
    """Visits the databases that the patterns choose, one after the other.

    Each gets a connection of its own that ends with the visit. Those that a run has no time for come first in the next.
    While one of them has yet to answer, no other is visited: the server never has more than two connections of ours.

    It is a part of the home visit too: the one that asks which databases there are.

    Args:
        config: its options.
        make: makes a database of the server by its name.
    """

    metrics: tuple[Metric, ...] = ()
    everywhere = False

    def __init__(self, config: DatabasesConfig, make: Callable[[str], Database]) -> None:
        self._config = config
        self._make = make
        self._known: dict[str, Database] = {}
        self._turns = Turns()
        self._names: list[str] | None = None

    async def collect(self, visit: Visit) -> None:
        """Ask which databases there are."""
        self._names = None
        rows = await visit.rows("pg_database", _DATABASES)
        if rows is not None:
            self._names = self._admit(visit, [row[0] for row in rows])

    @property
    def asked(self) -> int:
        """Statements that the last visits sent, to all databases together."""
        return sum(database.asked for database in self._known.values())

    async def go(self, home: Visit, until: float) -> None:
        """Visit as many as there is time for; what is wrong with them becomes findings of the home visit.

        Args:
            home: the visit to the instance's own database, which knows the others.
            until: monotonic seconds after which none is begun.
        """
        names, self._names = self._names, None
        if names is None or not home.complete:
            return
        self._turns.begin()
        unreached = []
        free = await self._is_nothing_late(home, until)
        for name in sorted(names, key=self._turns.last):
            left = until - monotonic()
            if left <= 0 or not free:
                unreached.append(name)
                continue
            self._turns.note(name)
            await self._visit(name, home, left / 2)  # one that is slow leaves time for the others
            free = not self._known[name].late
        if unreached:
            hint = "they come first in the next run; raise `timeout`, or choose fewer"
            home.findings.append(Finding(f"no time for {len(unreached)} of {len(names)} databases", hint))

    async def _is_nothing_late(self, home: Visit, until: float) -> bool:
        """Wait for what was asked in an earlier run, and whether all of it is answered."""
        for name, database in self._known.items():
            if database.late:
                if (found := await database.settle((until - monotonic()) / 2)) is not None:
                    home.findings.append(found.about(name))
                else:
                    await database.leave()
        return not any(database.late for database in self._known.values())

    def _admit(self, home: Visit, found: Sequence[str]) -> list[str]:
        """The names to visit; the databases that are gone are forgotten."""
        names = self._config.choose(found)
        if cut := names[self._config.limit :]:
            hint = "raise `databases.limit`, or choose fewer"
            home.findings.append(Finding(f"{len(cut)} more databases match: {spoken(cut)}", hint))
            del names[self._config.limit :]
        for name in set(self._known).difference(names):
            self._known.pop(name).close()
        return names

    async def _visit(self, name: str, home: Visit, patience: float) -> None:
        if name not in self._known:
            self._known[name] = self._make(name)
        database = self._known[name]
        try:
            visit = await database.visit(home.emit, patience)
        except UnreachableError as error:
            if not error.gone:  # it was dropped since it was listed
                home.findings.append(error.finding.about(name))
            return
        home.findings.extend(finding.about(name) for finding in visit.findings)
        await database.leave()

    def close(self) -> None:
        """Drop all connections."""
        for database in self._known.values():
            database.close()

"""The queries of an instance: prepared once, bound to windows, read into points; what is wrong is noted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.elements import TextClause

from vedette import CheckError, Emit
from vedette.kit import Budget
from vedette_checks.business_sql.binding import ISO_T, ORDER, UNCLEAR, Verdict, judge, settled, values
from vedette_checks.business_sql.columns import Point, read
from vedette_checks.business_sql.comparing import Comparison, Reading
from vedette_checks.business_sql.config import BusinessSqlConfig, QueryConfig, bind_problem, clause, label, sql_of
from vedette_checks.business_sql.database import Database, Rows, Transaction
from vedette_checks.business_sql.findings import lost, refused
from vedette_checks.business_sql.windows import Window


@dataclass(slots=True)
class _Query:
    """One query, ready to be asked.

    Attributes:
        config: its options.
        name: what findings call it.
        sql: its text.
        clause: the same for the driver, its rows limited.
        budget: of its tag sets.
        bind: what its bounds are; empty until that is known.
        spent: seconds of its longest answer in this run.
        rows: rows in this run.
        cut: rows and tag sets left out in this run.
    """

    config: QueryConfig
    name: str
    sql: str
    clause: TextClause
    budget: Budget
    bind: str
    spent: float = 0.0
    rows: int = 0
    cut: int = 0


class Queries:
    """All queries of an instance.

    Args:
        config: the options.
        database: where they are asked.
    """

    def __init__(self, config: BusinessSqlConfig, database: Database) -> None:
        self._config = config
        self._database = database
        self._queries: list[_Query] = []
        self._wrong: dict[str, None] = {}
        window = config.window
        self._whole_days = window is not None and window.every % 86_400 == 0 and window.timezone == "UTC"
        self.failed = False
        """Whether the last `ask` was refused an answer."""
        self.complete = False
        """Whether all that the last `ask` found was used: no row cut, no value unusable."""

    def prepare(self) -> None:
        """Read the files of SQL and make everything ready.

        Raises:
            CheckError: a file cannot be read, or its SQL does not fit.
        """
        windowed = self._config.window is not None
        self._queries = []
        for place, query in enumerate(self._config.queries):
            name = label(place, query)
            try:
                sql = sql_of(query)
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "it is not UTF-8 text"
                raise CheckError(f"{name}: `sql_file` cannot be read: {why}", hint="see the path") from None
            if problem := bind_problem(sql, windowed=windowed):
                raise CheckError(f"{name}: its SQL {problem}")
            budget = Budget(self._config.tag_limit)
            self._queries.append(
                _Query(query, name, sql, self._limited(sql, query.limit), budget, self._config.bind or "")
            )

    def _limited(self, sql: str, limit: int) -> TextClause:
        if self._database.dialect in ("postgresql", "sqlite"):
            return clause(f"SELECT * FROM (\n{sql}\n) AS q LIMIT {limit + 1}")  # noqa: S608 - the user's own SQL
        return clause(sql)

    def clauses(self) -> list[tuple[str, TextClause, str]]:
        """What is asked: each query's name, text, and what its bounds are (empty if that is not known)."""
        return [(query.name, query.clause, query.bind) for query in self._queries]

    def take_wrong(self) -> list[str]:
        """What was wrong since this was asked last, each once."""
        wrong, self._wrong = self._wrong, {}
        return list(wrong)

    async def ask(self, transaction: Transaction, window: Window | None) -> list[Point]:
        """The values of all queries, in one transaction.

        Args:
            transaction: where.
            window: which; None without windows.

        Raises:
            SQLAlchemyError, OSError, TimeoutError: the connection is lost.
        """
        points: list[Point] = []
        self.failed = False
        self.complete = True
        for query in self._queries:
            begun = monotonic()
            try:
                rows = await self._fetch(transaction, query, window)
            except (SQLAlchemyError, TimeoutError) as error:
                if isinstance(error, SQLAlchemyError) and lost(error):
                    raise
                found = refused(error, query.name, self._database.secrets)
                self._wrong["; ".join(filter(None, (found.message, found.hint)))] = None
                self.failed = True
                self.complete = False
                return []
            points.extend(self._read(query, rows))
            query.spent = max(query.spent, monotonic() - begun)
        return points

    def _read(self, query: _Query, rows: Rows) -> Sequence[Point]:
        config = query.config
        query.budget.begin()
        reading = read(config.columns, rows.names, rows.rows, config.limit, query.budget, config.tags)
        self._wrong.update({f"{query.name}: {text}": None for text in reading.wrong})
        query.rows += reading.rows
        query.cut += reading.cut
        self.complete = self.complete and not reading.wrong
        return reading.points

    def report(self, emit: Emit) -> None:
        """Emit what the queries of this run took, and how many rows they had."""
        for query in self._queries:
            tags = (f"query:{query.name}",)
            if query.spent:
                emit.gauge("business_sql.query_time", query.spent * 1000, tags)
                emit.gauge("business_sql.rows", query.rows, tags)
            if query.cut:
                emit.count("business_sql.cut", query.cut, tags)
            query.spent, query.rows, query.cut = 0.0, 0, 0

    async def _fetch(self, transaction: Transaction, query: _Query, window: Window | None) -> Rows:
        if window is None:
            return await transaction.fetch(query.clause)
        if not query.bind:
            return await self._find_bind(transaction, query, window)
        return await transaction.fetch(query.clause, values(window, query.bind))

    async def _find_bind(self, transaction: Transaction, query: _Query, window: Window) -> Rows:
        """The rows, and what the bounds are: kept once it is sure, else found out anew and told in the next run too."""
        if self._database.dialect == "sqlite":
            verdict = await self._look(transaction, query)
            rows = await transaction.fetch(query.clause, values(window, verdict.bind or "iso"))
        else:
            taken, rows = await self._try_out(transaction, query, window)
            verdict = settled(taken, await self._look(transaction, query))
            if verdict.bind == ISO_T:
                rows = await transaction.fetch(query.clause, values(window, ISO_T))
        if verdict.wrong:
            self._wrong[f"{query.name}: {verdict.wrong}"] = None
        else:
            query.bind = verdict.bind
        return rows

    async def _try_out(self, transaction: Transaction, query: _Query, window: Window) -> tuple[str, Rows]:
        """The first kind of bounds that the driver can make values of the parameters' types, and the rows with it."""
        for bind in ORDER:
            try:
                return bind, await transaction.fetch(query.clause, values(window, bind))
            except DBAPIError as error:
                if bind == ORDER[-1] or not _unfit(error):
                    raise
        raise AssertionError("the last one returns or raises")

    async def _look(self, transaction: Transaction, query: _Query) -> Verdict:
        """What the stored times say of how they are to be compared."""
        sqlite = self._database.dialect == "sqlite"
        reading = Reading(query.sql, brackets=sqlite)
        found = [one for one in reading.comparisons() if one is not None]
        verdicts = [
            await self._look_at(transaction, reading, one, "typeof" if sqlite else "pg_typeof") for one in found
        ]
        wrong = [one for one in verdicts if one.wrong]
        return wrong[0] if wrong else verdicts[0] if verdicts else Verdict("iso", UNCLEAR)

    async def _look_at(
        self, transaction: Transaction, reading: Reading, comparison: Comparison, kind_of: str
    ) -> Verdict:
        seen = False
        for sql in reading.probes(comparison.operand, kind_of):
            rows = await transaction.attempt(clause(sql))
            if rows is not None and rows.rows:
                kind, stored = rows.rows[0]
                return judge(str(kind), stored, comparison.bound, whole_days=self._whole_days)
            seen = seen or rows is not None
        return Verdict("") if seen else Verdict("iso", UNCLEAR)  # nothing is stored yet: look again next time


def _unfit(error: DBAPIError) -> bool:
    """Whether the driver could not make the bound a value of the parameter's type."""
    origin = getattr(error.orig, "__cause__", None)
    return any(kind.__name__ == "DataError" for kind in type(origin).__mro__) and "query argument" in str(origin)

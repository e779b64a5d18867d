"""The options of the business_sql check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from sqlalchemy import text
from sqlalchemy.sql.elements import TextClause

from vedette import CheckConfig, Duration, Password
from vedette_checks.business_sql.columns import ColumnConfig
from vedette_checks.business_sql.url import DatabaseUrl
from vedette_checks.business_sql.windows import divides_days

Bind = Literal["timestamptz", "timestamp_utc", "iso", "epoch"]
_LITERAL = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$\$.*?\$\$)""", re.DOTALL)
_BOUND = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")
_CAST = re.compile(r"(?<![:\w]):(start_time|end_time)\s*::")
_OTHER_COLON = re.compile(r"(?<!:):(?!(?:start_time|end_time)\b)|(?<=:):")
_ENCRYPTED = ("require", "verify-ca", "verify-full")
BOUNDS = frozenset({"start_time", "end_time"})
"""The values that a window binds."""


_EXAMPLE = {
    "name": "summary",
    "sql": "SELECT currency, count(*) AS n, sum(amount) FILTER (WHERE status = 'completed') AS volume, "
    "avg(amount) FILTER (WHERE status = 'completed') AS average, "
    "100.0 * count(*) FILTER (WHERE status = 'completed') / count(*) AS success "
    "FROM transactions WHERE created_at >= :start_time AND created_at < :end_time GROUP BY currency",
    "columns": {
        "currency": {"type": "tag"},
        "n": {"metric": "business.hourly.transaction_count"},
        "volume": {"metric": "business.hourly.transaction_volume"},
        "average": {"metric": "business.hourly.avg_transaction_value", "round": 2},
        "success": {"metric": "business.hourly.success_rate", "round": 2},
    },
}
"""The strategy's hourly summary."""


class WindowConfig(BaseModel):
    """`window:`, which stretches of time the queries are about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: Duration = Field(
        description="Length of a window: it divides a day (`1m`, `15m`, `1h`, `6h`, `1d`) or is whole days.",
        examples=["1h"],
    )
    lag: Duration = Field(
        300.0, description="How long after its end a window is read: what comes in late is in it.", ge=0
    )
    timezone: str = Field("UTC", description="Whose clock windows are aligned to.", examples=["Europe/Berlin"])

    @field_validator("every")
    @classmethod
    def _even(cls, value: float) -> float:
        if not divides_days(value):
            raise ValueError("must divide a day evenly, such as 15m, 1h or 1d, or be whole days")
        return value

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        CheckConfig.model_validate({"timezone": value})
        return value


class QueryConfig(BaseModel):
    """One entry of `queries:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        "", description="What findings call it. Default: its place in the list.", examples=["volume"], max_length=100
    )
    sql: str = Field(
        "",
        description="One SELECT. With `window` it says `:start_time` and `:end_time`.",
        examples=[
            "SELECT currency, count(*) AS n FROM transactions "
            "WHERE created_at >= :start_time AND created_at < :end_time GROUP BY currency"
        ],
    )
    sql_file: Path | None = Field(None, description="File with the SELECT, instead of `sql`.", examples=["hourly.sql"])
    columns: dict[str, ColumnConfig] = Field(
        description="What the columns of the result mean, by name. Those that are not named are left out.",
        examples=[{"currency": {"type": "tag"}, "n": {"type": "gauge", "metric": "business.hourly.transaction_count"}}],
    )
    tags: tuple[str, ...] = Field((), description="Tags of this query's metrics.", examples=[["source:ledger"]])
    limit: int = Field(1_000, description="Most rows to use.", ge=1, le=100_000)

    @field_validator("sql")
    @classmethod
    def _trimmed(cls, value: str) -> str:
        return value.strip().rstrip(";").rstrip()

    @model_validator(mode="after")
    def _one_text(self) -> QueryConfig:
        if bool(self.sql) == bool(self.sql_file):
            raise ValueError("needs either `sql` or `sql_file`")
        if all(column.type == "tag" for column in self.columns.values()):
            raise ValueError("`columns` has no number: give at least one another type than tag")
        return self


class BusinessSqlConfig(CheckConfig):
    """The options of one business_sql instance."""

    url: DatabaseUrl = Field(
        description="Address of the database, as SQLAlchemy has it: `sqlite+aiosqlite:///payments.db` (beside this "
        "file; four slashes for an absolute path), `postgresql+asyncpg://user@host/database`.",
        examples=["postgresql+asyncpg://vedette@db1.internal/payments"],
    )
    password: Password | None = Field(
        None,
        description="Password, if it is not in the URL; `${aws-iam:}` for IAM authentication of RDS for PostgreSQL.",
        examples=["${file:/run/secrets/pg}"],
    )
    window: WindowConfig | None = Field(
        None,
        description="Report closed windows of time, each once it has ended. Without it the queries are asked every "
        "`interval`.",
        examples=[{"every": "1h", "lag": "5m", "timezone": "Europe/Berlin"}],
    )
    catch_up: int = Field(
        48, description="Most windows to report after a downtime; older ones are counted as lost.", ge=1, le=10_000
    )
    restate: int = Field(
        0,
        description="How many windows before the newest to read again with it; what has changed is sent again with the "
        "same time.",
        ge=0,
        le=168,
    )
    bind: Bind | None = Field(
        None,
        description="What `:start_time` and `:end_time` are: a time with zone, a time without (in UTC), a text such as "
        "`2026-11-24 13:00:00` (UTC), or Unix seconds. Default: found out on the first run.",
    )
    statement_timeout: Duration | None = Field(
        None, description="Longest time for a query. Default: half the timeout.", examples=["5s"], gt=0
    )
    tag_limit: int = Field(200, description="Most different sets of tags per query.", ge=1, le=100_000)
    queries: tuple[QueryConfig, ...] = Field(
        description="What to ask. The queries of a window see the same state of the database.",
        examples=[[_EXAMPLE]],
        min_length=1,
    )

    @model_validator(mode="after")
    def _one_clock_only(self) -> BusinessSqlConfig:
        if self.window is not None and (given := {"interval", "schedule"} & self.model_fields_set):
            raise ValueError(f"`window` says when to ask: leave out {', '.join(sorted(given))}")
        given = {"catch_up", "restate", "bind"} & self.model_fields_set
        if self.window is None and given:
            raise ValueError(f"{', '.join(sorted(given))} go with `window`")
        if self.url.dialect == "sqlite" and self.bind in ("timestamptz", "timestamp_utc"):
            raise ValueError("SQLite has no type for times: `bind` is iso or epoch there")
        if self.statement_limit >= self.deadline:
            raise ValueError("statement_timeout must be shorter than timeout")
        return self

    @model_validator(mode="after")
    def _password_fits(self) -> BusinessSqlConfig:
        if self.password is None or self.password.minted is None:
            return self
        url = self.url.url
        if url.drivername != "postgresql+asyncpg":
            raise PydanticCustomError("vedette", "a password that is made for each connection goes with PostgreSQL")
        if not url.username or not url.host:
            raise PydanticCustomError("vedette", "this password is made for a user at a host: name both in `url`")
        if self.password.needs_tls and url.query.get("ssl") not in _ENCRYPTED:
            raise PydanticCustomError("vedette", "this password only goes over TLS: end `url` in `?ssl=verify-full`")
        return self

    @model_validator(mode="after")
    def _bound(self) -> BusinessSqlConfig:
        problems = [
            InitErrorDetails(
                type=PydanticCustomError("vedette", "{text}", {"text": problem}),
                loc=("queries", place, "sql"),
                input=None,
            )
            for place, query in enumerate(self.queries)
            if query.sql and (problem := bind_problem(query.sql, windowed=self.window is not None))
        ]
        if problems:
            raise ValidationError.from_exception_data("queries", problems)
        kinds: dict[str, str] = {}
        for query in self.queries:
            for column in query.columns.values():
                if column.type != "tag" and kinds.setdefault(column.metric, column.type) != column.type:
                    raise ValueError(
                        f"{column.metric} is a {kinds[column.metric]} in one place, a {column.type} in another"
                    )
        return self

    @property
    def deadline(self) -> float:
        """Seconds that a run may take: `timeout`, by default 10 s, and a minute with windows to catch up on."""
        if self.timeout is None and self.window is not None:
            return min(60.0, max(10.0, self.window.every))
        return super().deadline

    @property
    def statement_limit(self) -> float:
        """Seconds that a query may take."""
        return self.statement_timeout or min(self.deadline / 2, 30.0)

    @property
    def cadence(self) -> float:
        """Seconds between two values of a series."""
        return self.window.every if self.window is not None else super().cadence


def clause(sql: str) -> TextClause:
    """The text of a query; of its `:names` only the window's bounds are bound, and no colon within a literal counts."""
    pieces = _LITERAL.split(sql)
    pieces[::2] = [_OTHER_COLON.sub(r"\\:", piece) for piece in pieces[::2]]
    pieces[1::2] = [piece.replace(":", "\\:") for piece in pieces[1::2]]
    return text("".join(pieces))


def bind_problem(sql: str, *, windowed: bool) -> str:
    """What is wrong with the `:names` in a query; empty if nothing is."""
    bare = "".join(_LITERAL.split(sql)[::2])
    if cast := _CAST.search(bare):
        return f"casts :{cast[1]} with `::`; write CAST(:{cast[1]} AS type)"
    names = set(_BOUND.findall(bare))
    unknown = sorted(names - BOUNDS)
    if unknown:
        return f"has :{unknown[0]}, which nothing binds; there are :start_time and :end_time"
    if windowed and names != BOUNDS:
        return "must use both :start_time and :end_time"
    if names and not windowed:
        return "uses :start_time or :end_time, which go with `window`"
    return ""


def sql_of(query: QueryConfig) -> str:
    """The query's text.

    Raises:
        OSError, UnicodeDecodeError: its file cannot be read.
    """
    if query.sql_file is None:
        return query.sql
    return query.sql_file.read_text("utf-8").strip().rstrip(";").rstrip()


def label(place: int, query: QueryConfig) -> str:
    """What findings call a query."""
    return query.name or f"query {place + 1}"

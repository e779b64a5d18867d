"""The options of the postgres check."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from vedette import CheckConfig, Duration, Password, Secret
from vedette_checks.postgres.queries import QueryConfigs
from vedette_checks.postgres.relations import RelationConfigs
from vedette_checks.postgres.replica import ReplicaConfig
from vedette_checks.postgres.session import Limits
from vedette_checks.postgres.statements import StatementsConfig
from vedette_checks.postgres.target import SslMode, Target, parse_dsn
from vedette_checks.postgres.tour import DatabasesConfig

_IN_DSN = ("host", "port", "username", "dbname", "sslmode", "ca_file", "cert_file", "key_file")


class PostgresConfig(CheckConfig):
    """The options of one postgres instance."""

    dsn: Secret | None = Field(
        None,
        description="Address and login in one, instead of the options below: "
        "`postgresql://user@host:5432/database?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem`.",
        examples=["postgresql://vedette@db1.internal/payments"],
    )
    host: str = Field(
        "localhost",
        description="Host name, IP address, or the folder of a unix socket.",
        examples=["db1.internal", "/var/run/postgresql"],
        pattern=r"^[^\s@,]+$",
    )
    port: int = Field(5432, description="TCP port, or the number in the socket's name.", ge=1, le=65535)
    username: str = Field(
        "", description="Role to log in as. Default: the user the agent runs as.", examples=["vedette"]
    )
    password: Password | None = Field(
        None,
        description="Its password; `${aws-iam:}` for IAM authentication of RDS. Default: from the password file of "
        "libpq, if there is one.",
        examples=["${file:/run/secrets/pg}"],
    )
    dbname: str = Field("postgres", description="Database to connect to.", examples=["payments"], min_length=1)
    sslmode: SslMode = Field("prefer", description="As in libpq.", examples=["verify-full"])
    ca_file: Path | None = Field(
        None,
        description="Certificate authorities to trust instead of the system's.",
        examples=["/etc/ssl/postgres-ca.pem"],
    )
    cert_file: Path | None = Field(None, description="Client certificate.", examples=["/etc/ssl/vedette.pem"])
    key_file: Path | None = Field(
        None, description="Its private key, if it is in a file of its own.", examples=["/etc/ssl/vedette.key"]
    )
    pgbouncer: bool | None = Field(
        None,
        description="Whether PgBouncer in transaction mode is in between: each query is its own transaction then, and "
        "nothing is prepared. Default: found out by itself.",
    )
    lock_timeout: Duration = Field(1.0, description="Longest wait for a lock, per query.", gt=0)
    statement_timeout: Duration | None = Field(
        None, description="Longest time for a query. Default: half the timeout.", examples=["2s"], gt=0
    )
    replica: ReplicaConfig | None = Field(
        None,
        description="The replica of this primary: both are timed, and `postgres.health` says how far it is behind.",
        examples=[{"dsn": "postgresql://vedette@db2.internal/payments", "lag_warning": "10s"}],
    )
    databases: DatabasesConfig | None = Field(
        None,
        description="Other databases of the server to visit, one after the other, for `relations` and what else is "
        "about a database. `{}` is all of them.",
        examples=[{"include": ["shop_*"]}],
    )
    relations: RelationConfigs = Field(
        (),
        description="Tables and indexes to report on. `[{}]` is all of them.",
        examples=[[{"regex": "^pay_", "schema": "public", "limit": 50}]],
    )
    statements: StatementsConfig | None = Field(
        None,
        description="Report calls, time and rows by query, from the extension pg_stat_statements. `{}` turns it on.",
        examples=[{"top": 50}],
    )
    queries: QueryConfigs = Field(
        (),
        description="Queries of your own.",
        examples=[
            [
                {
                    "name": "open orders",
                    "sql": "SELECT status, count(*) FROM orders GROUP BY status",
                    "columns": [{"name": "status", "type": "tag"}, {"name": "shop.orders", "type": "gauge"}],
                    "interval": "5m",
                }
            ]
        ],
    )
    blocking_warning: Duration = Field(
        30.0, description="`postgres.blocking` is WARNING from this wait for a lock on.", gt=0
    )
    blocking_critical: Duration = Field(
        300.0, description="`postgres.blocking` is CRITICAL from this wait for a lock on.", gt=0
    )

    @field_validator("dsn")
    @classmethod
    def _readable_dsn(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            parse_dsn(value.reveal())
        return value

    @model_validator(mode="after")
    def _one_address(self) -> PostgresConfig:
        if self.dsn is not None:
            if given := [name for name in _IN_DSN if name in self.model_fields_set]:
                raise ValueError(f"`dsn` says it all: leave out {', '.join(given)}")
            if self.password is not None and parse_dsn(self.dsn.reveal()).password:
                raise ValueError("`dsn` has a password already: leave out password")
        target = self.target
        if self.replica is not None:
            self.replica.target(target)
        if target.key_file is not None and target.cert_file is None:
            raise ValueError("`key_file` needs `cert_file`")
        if target.sslmode in ("disable", "allow", "prefer") and (target.ca_file or target.cert_file):
            raise ValueError("certificate files need `sslmode: verify-full` (or verify-ca, require)")
        return self

    @model_validator(mode="after")
    def _limits_fit(self) -> PostgresConfig:
        if self.statement_limit >= self.deadline:
            raise ValueError("statement_timeout must be shorter than timeout")
        if self.blocking_critical < self.blocking_warning:
            raise ValueError("blocking_critical must not be shorter than blocking_warning")
        return self

    @model_validator(mode="after")
    def _queries_are_run(self) -> PostgresConfig:
        for place, query in enumerate(self.queries):
            if query.interval is not None and query.interval < self.interval and self.schedule is None:
                raise ValueError(f"queries[{place}].interval must not be shorter than the instance's own interval")
        return self

    @property
    def target(self) -> Target:
        """Where the server is, from `dsn` or from the single options."""
        if self.dsn is not None:
            target = parse_dsn(self.dsn.reveal())
            return target if self.password is None else target.with_password(self.password)
        return Target(
            self.host,
            self.port,
            self.username,
            "",
            self.dbname,
            self.sslmode,
            self.ca_file,
            self.cert_file,
            self.key_file,
        ).with_password(self.password)

    @property
    def limits(self) -> Limits:
        """What a query may take."""
        return Limits(self.lock_timeout, self.statement_limit, self.pgbouncer)

    @property
    def statement_limit(self) -> float:
        """Seconds that a query may take."""
        return self.deadline / 2 if self.statement_timeout is None else self.statement_timeout

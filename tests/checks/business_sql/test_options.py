"""What validate finds, with file and line, and what the parser sees in SQL."""

# ruff: noqa: E501 - tables of SQL

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vedette.config import load
from vedette.plugins import Registry
from vedette_checks.business_sql import BusinessSqlConfig

WINDOW = "WHERE created_at >= :start_time AND created_at < :end_time"


def problems(folder: Path, text: str, *, thorough: bool = True) -> list[str]:
    (folder / "business_sql.yaml").write_text(text)
    found = load(folder, Registry(), environ={}, secrets="lazy", thorough=thorough).problems
    return [str(problem).removeprefix(f"{folder}/business_sql.yaml:") for problem in found]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (f"SELECT count(*) AS n FROM t {WINDOW}", []),
        (f"SELECT count(*) AS n FROM t {WINDOW} AND note <> ':x' AND a = CAST(:start_time AS date) AND b = '1'::text /* :y */", []),
        (f"SELECT count(*) AS N FROM t {WINDOW}", []),
        (f"SELECT * FROM t {WINDOW}", []),
        (f"SELECT count(*) AS m FROM t {WINDOW}",
         ["8: instances[0].queries[0].columns.n: the query has no column of this name; it has m"]),
        (f"WITH gone AS (DELETE FROM t RETURNING 1) SELECT count(*) AS n FROM gone {WINDOW}",
         ["7: instances[0].queries[0].sql: writes (DELETE): it must only read"]),
        (f"INSERT INTO u SELECT count(*) AS n FROM t {WINDOW}",
         ["7: instances[0].queries[0].sql: writes (INSERT): it must only read"]),
        (f"SELECT count(*) AS n INTO u FROM t {WINDOW}",
         ["7: instances[0].queries[0].sql: writes (INTO): it must only read"]),
        (f"SELECT n FROM t {WINDOW} FOR UPDATE",
         ["7: instances[0].queries[0].sql: locks rows (LOCK): it must only read"]),
        (f"SELECT 1 AS n; SELECT count(*) AS n FROM t {WINDOW}",
         ["7: instances[0].queries[0].sql: must be one statement, without a ; in it"]),
        (f"SELECT count(*) AS n FRM t {WINDOW}",
         ["7: instances[0].queries[0].sql: warning: cannot be parsed here; the database may still know it; try it with `vedette check business_sql`"]),
        ("SELECT count(*) AS n FROM t WHERE a >= :start_time::timestamptz AND a < :end_time",
         ["7: instances[0].queries[0].sql: casts :start_time with `::`; write CAST(:start_time AS type)"]),
        (f"SELECT count(*) AS n FROM t {WINDOW} AND x = :limit",
         ["7: instances[0].queries[0].sql: has :limit, which nothing binds; there are :start_time and :end_time"]),
        ("SELECT count(*) AS n FROM t WHERE a >= :start_time",
         ["7: instances[0].queries[0].sql: must use both :start_time and :end_time"]),
    ],
)  # fmt: skip
def test_sql_is_read(tmp_path: Path, sql: str, said: list[str]) -> None:
    text = f"""\
defaults:
  timeout: 5s
instances:
  - url: postgresql://me@db/shop
    window: {{every: 1h}}
    queries:
      - sql: "{sql}"
        columns: {{n: {{metric: a.n}}}}
"""
    assert problems(tmp_path, text) == said


def test_the_parser_is_not_asked_at_run_time(tmp_path: Path) -> None:
    text = "instances:\n  - {url: 'sqlite:///a.db', queries: [{sql: DROP TABLE t, columns: {n: {metric: a.n}}}]}\n"
    assert problems(tmp_path, text, thorough=False) == []
    assert problems(tmp_path, text) == ["2: instances[0].queries[0].sql: writes (DROP): it must only read"]


def test_a_file_of_sql_and_of_sqlite_stand_beside_the_yaml(tmp_path: Path) -> None:
    (tmp_path / "hourly.sql").write_text("SELECT 1 AS n;\n")
    text = "instances:\n  - {url: 'sqlite:///a/b.db', queries: [{sql_file: hourly.sql, columns: {n: {metric: a.n}}}]}\n"
    assert problems(tmp_path, text) == []
    (instance,) = load(tmp_path, Registry(), environ={}).instances
    assert isinstance(instance.config, BusinessSqlConfig)
    assert instance.config.url.url.database == str(tmp_path / "a/b.db")
    assert instance.config.url.url.drivername == "sqlite+aiosqlite"
    assert "b.db" not in repr(instance.config)
    (tmp_path / "hourly.sql").unlink()
    assert problems(tmp_path, text) == [
        "2: instances[0].queries[0].sql_file: cannot be read: No such file or directory"
    ]


def test_dangers_are_warned_of(tmp_path: Path) -> None:
    text = f"""\
instances:
  - url: postgresql://me@db/shop
    window: {{every: 1h, lag: 5m}}
    restate: 3
    queries: [{{sql: "SELECT count(*) AS n, sum(t) AS t FROM t {WINDOW}", columns: {{n: {{metric: a.n, type: count}}, t: {{metric: a.t, type: histogram}}}}}}]
"""
    assert problems(tmp_path, text) == [
        "2: instances[0]: warning: points will be more than an hour old, which Datadog takes only for metrics with historical ingestion switched on",
        "2: instances[0]: warning: what `restate` sends again adds up where a column is no gauge",
        "2: instances[0]: warning: a histogram has the time it is sent at on DogStatsD, not its window's end: use a gauge or a count",
    ]


GOOD: dict[str, Any] = {
    "url": "sqlite:///a.db",
    "queries": [{"sql": "SELECT 1 AS n", "columns": {"n": {"metric": "a.n"}}}],
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "nonsense"}, "is no database URL"),
        ({"url": "nodb://x/y"}, "names a database or driver that is not installed"),
        ({"url": "postgresql+psycopg2://x/y"}, "needs "),
        ({"url": "sqlite+pysqlite:///x"}, "needs an asynchronous driver"),
        ({"window": {"every": "7m"}}, "must divide a day evenly"),
        ({"window": {"every": "1h", "timezone": "Mars/Base"}}, "must be a time zone such as UTC"),
        ({"window": {"every": "1h"}, "interval": "5s"}, "`window` says when to ask: leave out interval"),
        ({"restate": 2}, "restate go with `window`"),
        ({"window": {"every": "1h"}, "bind": "timestamptz"}, "SQLite has no type for times"),
        ({"statement_timeout": "20s"}, "statement_timeout must be shorter than timeout"),
        ({"window": {"every": "1h"}}, "must use both :start_time and :end_time"),
        ({"queries": [{"sql": "SELECT :end_time AS n", "columns": {"n": {"metric": "a.n"}}}]}, "which go with `window`"),
        ({"queries": [{"columns": {"n": {"metric": "a.n"}}}]}, "needs either `sql` or `sql_file`"),
        ({"queries": [{"sql": "SELECT 1", "columns": {"n": {"type": "tag"}}}]}, "has no number"),
        ({"queries": [{"sql": "SELECT 1", "columns": {"n": {}}}]}, "`metric` is needed"),
        ({"queries": [{"sql": "SELECT 1", "columns": {"n": {"metric": "business_sql.rows"}}}]}, "are the check's own"),
        ({"queries": [{"sql": "SELECT 1", "columns": {"n": {"type": "tag", "scale": 2}}}]}, "a tag has no metric"),
        ({"queries": [{"sql": "SELECT 1", "columns": {"n": {"metric": "a.n"}, "m": {"metric": "a.n", "type": "count"}}}]},
         "a.n is a gauge in one place, a count in another"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BusinessSqlConfig.model_validate({**GOOD, **changes})

"""asyncpg and SQLAlchemy: query time by operation, and the gauges of a pool."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from time import perf_counter
from typing import Any, TypeVar

from vedette.instrument.connections import Measured
from vedette.instrument.statements import verb
from vedette.instrument.technical import TechnicalMetrics

_Engine = TypeVar("_Engine")
_Pool = TypeVar("_Pool")
_STARTED = "_vedette_started"


class AsyncpgMetrics:
    """Measures the connections that it is called with, and the pools that it is shown. Made by `instrument_asyncpg`."""

    def __init__(self, metrics: TechnicalMetrics, init: Callable[[Any], Awaitable[None]] | None, name: str) -> None:
        self._metrics = metrics
        self._init = init
        self._name = name
        self._measured = Measured(self._tell, metrics.failed)

    async def __call__(self, connection: Any) -> None:
        """Prepare a new connection: what `create_pool(init=…)` calls, and what to await for a single connection."""
        try:
            connection.add_query_logger(partial(self._log, connection.get_reset_query()))
            self._measured.connection(connection)
        except Exception:
            self._metrics.failed()
        if self._init is not None:
            await self._init(connection)

    def watch(self, pool: _Pool) -> _Pool:
        """Report this pool's connections every ten seconds, until it is closed. Returns the same pool."""
        self._metrics.every_ten_seconds(partial(_read_asyncpg, self._metrics, pool, self._name), ("pool", id(pool)))
        return pool

    def _log(self, reset: str, record: Any) -> None:
        if record.query == reset:  # of the pool itself, at each release: no query of the application
            return
        self._tell(verb(record.query), record.elapsed, record.exception is None)

    def _tell(self, operation: str, seconds: float, success: bool) -> None:
        self._metrics.track_database_performance(operation=operation, execution_time_ms=seconds * 1000, success=success)


def instrument_asyncpg(
    *,
    metrics: TechnicalMetrics | None = None,
    init: Callable[[Any], Awaitable[None]] | None = None,
    name: str = "",
) -> AsyncpgMetrics:
    """Measure asyncpg: a pool, and each statement.

    `fetch`, `execute` and their like are told of by asyncpg's own query log; prepared statements, cursors and COPY,
    which are not in it, by subclasses. A cursor is its statement's verb when it is opened, then `fetch` and `move`.

    ```python
    measured = instrument_asyncpg()
    pool = measured.watch(await asyncpg.create_pool(dsn, init=measured))
    ```

    Args:
        metrics: where to send to. Default: `TechnicalMetrics()`.
        init: a function of your own to await for each new connection besides.
        name: tag `pool` of the gauges, where a process has several pools.
    """
    return AsyncpgMetrics(TechnicalMetrics() if metrics is None else metrics, init, name)


def _read_asyncpg(metrics: TechnicalMetrics, pool: Any, name: str) -> None:
    if pool.is_closing():
        raise ReferenceError
    total, idle = pool.get_size(), pool.get_idle_size()
    metrics.track_pool(active=max(0, total - idle), idle=idle, total=total, pool=name)


def instrument_sqlalchemy(engine: _Engine, *, metrics: TechnicalMetrics | None = None, name: str = "") -> _Engine:
    """Measure an engine of SQLAlchemy, plain or asynchronous: its statements and its pool.

    Args:
        engine: of `create_engine` or `create_async_engine`.
        metrics: where to send to. Default: `TechnicalMetrics()`.
        name: tag `pool` of the gauges, where a process has several engines.

    Returns:
        The same engine.
    """
    target = TechnicalMetrics() if metrics is None else metrics
    plain: Any = getattr(engine, "sync_engine", engine)

    def before(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if context is not None:
            setattr(context, _STARTED, perf_counter())

    def after(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        _track(target, statement, context, success=True)

    def failed(failure: Any) -> None:
        _track(target, failure.statement, failure.execution_context, success=False)

    event: Any = import_module("sqlalchemy").event  # by name, so that the mypy of a service need not read it all
    event.listen(plain, "before_cursor_execute", before)
    event.listen(plain, "after_cursor_execute", after)
    event.listen(plain, "handle_error", failed)
    _watch_sqlalchemy(target, plain, name)
    return engine


def _track(metrics: TechnicalMetrics, statement: str | None, context: Any, *, success: bool) -> None:
    started = getattr(context, _STARTED, None)
    if started is None or statement is None:  # an error before the statement was sent, or while its rows were read
        return
    delattr(context, _STARTED)
    took = (perf_counter() - started) * 1000
    metrics.track_database_performance(operation=verb(statement), execution_time_ms=took, success=success)


def _watch_sqlalchemy(metrics: TechnicalMetrics, engine: Any, name: str) -> None:
    reference = weakref.ref(engine)

    def read() -> None:
        found = reference()
        if found is None:
            raise ReferenceError
        pool = found.pool  # another one after dispose()
        if hasattr(pool, "checkedout") and hasattr(pool, "checkedin"):  # NullPool and StaticPool count nothing
            metrics.track_pool(active=pool.checkedout(), idle=pool.checkedin(), pool=name)

    metrics.every_ten_seconds(read, ("engine", id(engine)))

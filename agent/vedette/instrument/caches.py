"""redis-py: hits, misses and the time of each command, for plain, asynchronous and cluster clients."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any, TypeVar

from vedette.instrument.technical import READS, TechnicalMetrics
from vedette.instrument.vocabulary import words

_Client = TypeVar("_Client")
_WAITING = words(
    "blpop brpop brpoplpush blmove blmpop bzpopmin bzpopmax bzmpop xread xreadgroup wait waitaof monitor subscribe "
    "psubscribe ssubscribe"
)
"""Commands that wait for something to happen: their time says nothing about the server."""
_LISTS = frozenset({"mget", "hmget"})
_MARK = "_vedette_instrumented"


def instrument_redis(client: _Client, *, metrics: TechnicalMetrics | None = None) -> _Client:
    """Measure a client of redis-py, and the pipelines that it makes.

    Each command is a `cache.operations` with its time; reading commands hit or miss, each key of an `mget` on its own.
    A pipeline is one operation of this name with its time, and each read in it hits or misses.

    Args:
        client: `redis.Redis`, `redis.asyncio.Redis`, or one of their cluster clients.
        metrics: where to send to. Default: `TechnicalMetrics()`.

    Returns:
        The same client.
    """
    target: Any = client
    if getattr(target, _MARK, False):
        return client
    watch = _Watch(TechnicalMetrics() if metrics is None else metrics)
    target.execute_command = watch.command(target.execute_command)
    make = target.pipeline

    def pipeline(*args: Any, **options: Any) -> Any:
        made = make(*args, **options)
        try:
            made.execute = watch.pipeline(made, made.execute)
        except Exception:
            watch.metrics.failed()
        return made

    target.pipeline = pipeline
    setattr(target, _MARK, True)
    return client


class _Watch:
    """Wraps the functions of one client."""

    def __init__(self, metrics: TechnicalMetrics) -> None:
        self.metrics = metrics

    def command(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        if not iscoroutinefunction(execute):

            def plain(*args: Any, **options: Any) -> Any:
                started = perf_counter()
                reply: Any = _Watch
                try:
                    reply = execute(*args, **options)
                finally:
                    self._told(args, reply, started)
                return reply

            return plain

        async def awaited(*args: Any, **options: Any) -> Any:
            started = perf_counter()
            reply: Any = _Watch
            try:
                reply = await execute(*args, **options)
            finally:
                self._told(args, reply, started)
            return reply

        return awaited

    def pipeline(self, made: Any, execute: Callable[..., Any]) -> Callable[..., Any]:
        if not iscoroutinefunction(execute):

            def plain(*args: Any, **options: Any) -> Any:
                commands, started = _queued(made), perf_counter()
                replies: Any = ()
                try:
                    replies = execute(*args, **options)
                finally:
                    self._all_told(commands, replies, started)
                return replies

            return plain

        async def awaited(*args: Any, **options: Any) -> Any:
            commands, started = _queued(made), perf_counter()
            replies: Any = ()
            try:
                replies = await execute(*args, **options)
            finally:
                self._all_told(commands, replies, started)
            return replies

        return awaited

    def _told(self, args: tuple[Any, ...], reply: Any, started: float) -> None:
        """One command has ended; `_Watch` in the place of a reply is an error."""
        took = (perf_counter() - started) * 1000
        try:
            operation = _operation(args)
            if operation in _WAITING:
                return
            first, *others = _hits(operation, reply)
            self.metrics.track_cache_performance(operation=operation, hit=first, response_time_ms=took)
            for hit in others:
                self.metrics.track_cache_performance(operation=operation, hit=hit, response_time_ms=None)
        except Exception:
            self.metrics.failed()

    def _all_told(self, commands: list[tuple[Any, ...]], replies: Any, started: float) -> None:
        took = (perf_counter() - started) * 1000
        try:
            self.metrics.track_cache_performance(operation="pipeline", hit=None, response_time_ms=took)
            if isinstance(replies, list) and len(replies) == len(commands):
                for args, reply in zip(commands, replies, strict=True):
                    operation = _operation(args)
                    if operation in READS:
                        for hit in _hits(operation, reply):
                            self.metrics.track_cache_performance(operation=operation, hit=hit, response_time_ms=None)
        except Exception:
            self.metrics.failed()


def _operation(args: tuple[Any, ...]) -> str:
    name = args[0] if args else ""
    text = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
    return text.partition(" ")[0].lower()


def _hits(operation: str, reply: Any) -> list[bool | None]:
    """Hit or miss for each key; None for commands that have neither, and for errors."""
    if operation not in READS or reply is _Watch or isinstance(reply, Exception):
        return [None]
    if operation in _LISTS and isinstance(reply, list):
        return [value is not None for value in reply] or [None]
    return [reply is not None]


def _queued(pipeline: Any) -> list[tuple[Any, ...]]:
    """The commands that a pipeline is about to send."""
    entries = getattr(pipeline, "command_stack", None)
    if not entries:  # asynchronous clusters keep them elsewhere
        entries = getattr(getattr(pipeline, "_execution_strategy", None), "_command_queue", None) or ()
    return [entry[0] if isinstance(entry, tuple) else tuple(getattr(entry, "args", ())) for entry in entries]

"""redis-py: hits, misses and the time of each command, for plain, asynchronous and cluster clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
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
_MARK, _WATCH = "_vedette_instrumented", "_vedette_watch"
_NO_REPLY: Any = object()
"""In the place of a reply: an error."""


def instrument_redis(client: _Client, *, metrics: TechnicalMetrics | None = None) -> _Client:
    """Measure a client of redis-py, and the pipelines that it makes.

    Each command is a `cache.operations` with its time; reading commands hit or miss, each key of an `mget` on its own.
    A pipeline is one operation of this name with its time, and each read in it hits or misses. What it asks while it
    watches keys is measured like any other command.

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
    target.execute_command = _watched(target.execute_command, watch.command)
    make = target.pipeline

    def pipeline(*args: Any, **options: Any) -> Any:
        made = make(*args, **options)
        try:
            measured = _measured(made.__class__)
            setattr(made, _WATCH, watch)
            made.__class__ = measured
        except Exception:
            watch.metrics.failed()
        return made

    target.pipeline = pipeline
    setattr(target, _MARK, True)
    return client


Tell = Callable[[Any], None]


def _watched(execute: Callable[..., Any], begin: Callable[..., Tell]) -> Callable[..., Any]:
    """The same function, but `begin` gets its arguments, and what that returns gets the reply."""
    if not iscoroutinefunction(execute):

        def plain(*args: Any, **options: Any) -> Any:
            tell, reply = begin(*args), _NO_REPLY
            try:
                reply = execute(*args, **options)
            finally:
                tell(reply)
            return reply

        return plain

    async def awaited(*args: Any, **options: Any) -> Any:
        tell, reply = begin(*args), _NO_REPLY
        try:
            reply = await execute(*args, **options)
        finally:
            tell(reply)
        return reply

    return awaited


@cache
def _measured(kind: type) -> type:
    """A pipeline's class that tells the watch in it: functions put into a pipeline would refer to it, a cycle that
    holds it, and the connection on which it watches keys, until the garbage is collected.
    """
    members = {"execute": _watched(kind.execute, _begin_pipeline)}  # type: ignore[attr-defined]
    immediate = getattr(kind, "immediate_execute_command", None)  # of what it watches; clusters have no such method
    if immediate is not None:
        members["immediate_execute_command"] = _watched(immediate, _begin_command)
    return type(kind.__name__, (kind,), members)


def _begin_pipeline(pipeline: Any, *_: Any) -> Tell:
    watch: _Watch = getattr(pipeline, _WATCH)
    return watch.pipeline(_queued(pipeline))


def _begin_command(pipeline: Any, *args: Any) -> Tell:
    watch: _Watch = getattr(pipeline, _WATCH)
    return watch.command(*args)


class _Watch:
    """Tells the metrics of one client."""

    def __init__(self, metrics: TechnicalMetrics) -> None:
        self.metrics = metrics

    def command(self, *args: Any) -> Tell:
        return partial(self._told, args, perf_counter())

    def pipeline(self, commands: list[tuple[Any, ...]]) -> Tell:
        return partial(self._all_told, commands, perf_counter())

    def _told(self, args: tuple[Any, ...], started: float, reply: Any) -> None:
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

    def _all_told(self, commands: list[tuple[Any, ...]], started: float, replies: Any) -> None:
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
    if operation not in READS or reply is _NO_REPLY or isinstance(reply, Exception):
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

"""What asyncpg's query log leaves out: prepared statements, cursors and COPY, measured by subclasses of its classes.

Its objects have slots and no room for a wrapper, so they are given a subclass that adds none: theirs in all else.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from time import perf_counter
from typing import Any

from vedette.instrument.statements import verb

Tell = Callable[[str, float, bool], None]
"""Told of each: operation, seconds, whether it succeeded."""
Act = Callable[..., Any]

_COPIES = ("copy_from_table", "copy_from_query", "copy_to_table", "copy_records_to_table")
_FETCHES = ("fetch", "fetchval", "fetchrow", "fetchmany", "executemany")


class Measured:
    """Makes the subclasses, one of each class, and gives them to objects.

    Args:
        tell: told of what they do.
        failed: told of what cannot be measured, as of an asyncpg that is built in another way.
    """

    def __init__(self, tell: Tell, failed: Callable[[], None]) -> None:
        self._tell = tell
        self._failed = failed
        self._classes: dict[type, type] = {}

    def connection(self, connection: Any) -> None:
        """Measure a connection, of asyncpg's class or of the application's own."""
        self._become(connection, self._of_connection)

    def _become(self, owner: Any, members: Callable[[type[Any]], dict[str, Any]]) -> Any:
        try:
            kind = owner.__class__
            measured = self._classes.get(kind)
            if measured is None:
                meta: Any = type(kind)
                measured = meta(kind.__name__, (kind,), {"__slots__": (), **members(kind)})
                self._classes[kind] = self._classes[measured] = measured  # a second time changes nothing
            owner.__class__ = measured
        except Exception:
            self._failed()
        return owner

    def _timed(self, act: Act, operation: Callable[[Any], str]) -> Act:
        """The same coroutine function, timed where its object has an operation to name."""

        async def timed(owner: Any, *args: Any, **options: Any) -> Any:
            try:
                name = operation(owner)
            except Exception:
                self._failed()
                name = ""
            if not name:
                return await act(owner, *args, **options)
            started, success = perf_counter(), False
            try:
                result = await act(owner, *args, **options)
                success = True
            except StopAsyncIteration:
                success = True
                raise
            finally:
                self._tell(name, perf_counter() - started, success)
            return result

        return timed

    def _of_connection(self, kind: type[Any]) -> dict[str, Any]:
        async def prepare(owner: Any, *args: Any, **options: Any) -> Any:
            return self._become(await kind.prepare(owner, *args, **options), self._of_statement)

        return {
            "prepare": prepare,
            "cursor": self._opening(kind.cursor),
            **{name: self._timed(getattr(kind, name), lambda _: "copy") for name in _COPIES},
        }

    def _of_statement(self, kind: type[Any]) -> dict[str, Any]:
        timed = {name: self._timed(getattr(kind, name), _verb) for name in _FETCHES if hasattr(kind, name)}
        return {"cursor": self._opening(kind.cursor), **timed}

    def _opening(self, cursor: Act) -> Act:
        return lambda owner, *args, **options: self._become(cursor(owner, *args, **options), self._of_factory)

    def _of_factory(self, kind: type[Any]) -> dict[str, Any]:
        async def opened(owner: Any) -> Any:
            return await _Awaiting(kind.__await__(owner))

        async def open_cursor(owner: Any) -> Any:
            return self._become(await self._timed(opened, _verb)(owner), self._of_cursor)

        return {
            "__await__": lambda owner: open_cursor(owner).__await__(),
            "__aiter__": lambda owner: self._become(kind.__aiter__(owner), self._of_iterator),
        }

    def _of_cursor(self, kind: type[Any]) -> dict[str, Any]:
        named = {"fetch": "fetch", "fetchrow": "fetch", "forward": "move"}
        return {
            name: self._timed(getattr(kind, name), lambda owner, word=word: "" if owner._exhausted else word)  # type: ignore[misc]
            for name, word in named.items()
        }

    def _of_iterator(self, kind: type[Any]) -> dict[str, Any]:
        return {"__anext__": self._timed(kind.__anext__, _fetched)}


class _Awaiting:
    """What `__await__` returned, to be awaited."""

    def __init__(self, steps: Generator[Any, Any, Any]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps


def _verb(owner: Any) -> str:
    return verb(owner._query)


def _fetched(owner: Any) -> str:
    """What an iterator is about to ask; nothing where it has rows left, or has had the last one."""
    if owner._buffer or owner._exhausted:
        return ""
    return "fetch" if owner._portal_name else verb(owner._query)

"""Small JSON files that are whole or not there: what outlives the process beside the state store."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

_MOST_LINES: Final = 500
_TOO_MANY: Final = 1 << 60


class Memory(MutableMapping[str, Any]):
    """What a notifier remembers: JSON values in one file, written whenever one is set.

    Args:
        path: the file; None keeps all in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._values: dict[str, Any] = {}
        if path is not None:
            with suppress(OSError, ValueError):
                values = json.loads(path.read_bytes())
                self._values = values if isinstance(values, dict) else {}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = value
        self._save()

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._save()

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def _save(self) -> None:
        if self._path is not None:
            with suppress(OSError):
                write_json(self._path, self._values)


class Journal(Memory):
    """The same for many values: a change is a line in a file beside, and all of them are written now and then.

    Args:
        path: the file; None keeps all in memory.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path)
        self._lines = 0
        self._beside = path.with_suffix(".more") if path is not None else None
        if self._beside is not None:
            with suppress(OSError):
                for line in self._beside.read_bytes().splitlines():
                    self._lines = _TOO_MANY  # the next change writes all: the last line may be half of one
                    with suppress(ValueError):
                        self._replay(json.loads(line))

    def _replay(self, change: Any) -> None:
        match change:
            case [str() as key]:
                self._values.pop(key, None)
            case [str() as key, value]:
                self._values[key] = value
            case _:
                pass

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = value
        self._note([key, value])

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._note([key])

    def _note(self, change: list[Any]) -> None:
        if self._path is None or self._beside is None:
            return
        full, self._lines = self._lines, _TOO_MANY  # should this fail, half a line may be there: the next writes all
        with suppress(OSError):
            text = json.dumps(change) + "\n"  # first: after a kill all lines are replayed over what is written below
            self._append(self._beside, text if full < _TOO_MANY else "\n" + text)
            lines = full + 1
            if not self._values or lines > max(_MOST_LINES, 2 * len(self._values)):
                write_json(self._path, self._values)
                self._beside.unlink(missing_ok=True)
                lines = 0
            self._lines = lines

    @staticmethod
    def _append(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "a", encoding="utf-8") as file:
            file.write(text)


def write_json(path: Path, data: Any) -> None:
    """Write a file that is either whole or not there; only its owner may read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_suffix(".new")
    number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        json.dump(data, file)
    beside.replace(path)

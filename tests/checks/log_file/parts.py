"""Following files in a test: a listener with a short pace, and what it has said."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vedette.metrics import LogRecord
from vedette.testing import Serving, serve_check
from vedette_checks.log_file import LogFile

PACE = {"poll": 0.05, "discover": 0.05, "interval": 0.05}


class Following:
    """A listener at work in a folder."""

    def __init__(self, folder: Path, serving: Serving) -> None:
        self.folder, self.serving = folder, serving

    @property
    def records(self) -> list[LogRecord]:
        return [record for batch in self.serving.batches for record in batch.logs]

    @property
    def messages(self) -> list[str]:
        return [record.message for record in self.records]

    async def wait_for(self, number: int) -> list[LogRecord]:
        """The records, once there are so many."""
        await self.serving.wait_for(lambda _: len(self.records) >= number, 20)
        assert len(self.records) == number, self.messages
        return self.records

    def total(self, name: str, tag: str = "") -> float:
        """The sum of a count."""
        return sum(
            float(sample.value)  # type: ignore[arg-type]
            for sample in self.serving.samples
            if sample.name == name and (not tag or tag in sample.tags)
        )

    async def until(self, what: Callable[[], Any]) -> None:
        await self.serving.wait_for(lambda _: bool(what()), 20)

    async def looked(self) -> None:
        """Wait until it has looked at everything once more."""
        before = len(self.serving.batches)
        await self.serving.wait_for(before + 2, 20)


@asynccontextmanager
async def following(folder: Path, *, state: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Following]:
    """Follow `*.log` of a folder from the beginning, or what the options say."""
    given = {"paths": [str(folder / "*.log")], "start_position": "beginning", **PACE, **options}
    async with serve_check(LogFile, given, state=state) as serving:
        yield Following(folder, serving)


def append(path: Path, text: str | bytes) -> None:
    """Write to the end of a file, as a service does."""
    with path.open("ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def copytruncate(path: Path, copy: Path) -> None:
    """Rotate as logrotate's copytruncate does."""
    copy.write_bytes(path.read_bytes())
    os.truncate(path, 0)

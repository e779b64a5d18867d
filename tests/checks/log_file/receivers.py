"""Where the lines of a test with kills arrive: in a file, or at an intake; and what arrived more than once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from servers import free_port
from sinks.intake import KEY, Intake, Taken, intake


class Receiver(Protocol):
    """What a sink writes to."""

    @property
    def options(self) -> str:
        """Those of the sink."""
        ...

    def has(self, number: int) -> bool:
        """Whether the line of this number is there."""
        ...

    def has_all(self, number: int) -> bool:
        """Whether all lines before this number are."""
        ...

    def check(self, written: int, kills: int) -> None:
        """Every line is there, and each kill has repeated one batch at most."""
        ...

    def __enter__(self) -> Receiver: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def number_of(line: str) -> int:
    return int(line.split()[3])


class OutFile:
    """The `file` sink's file."""

    options = "type: file, path: ../out.jsonl, max_bytes: 100GB"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "out.jsonl"

    def __enter__(self) -> OutFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def _rows(self) -> Iterator[tuple[int, float]]:
        """The number and the batch's time of each line."""
        for line in self._path.read_bytes().splitlines(keepends=True):
            if b'"kind":"log"' in line and line.endswith(b"\n"):  # the sink may be writing it now
                row = json.loads(line)
                yield number_of(row["value"]), row["time"]

    def has(self, number: int) -> bool:
        if not self._path.exists():
            return False
        with self._path.open("rb") as file:
            file.seek(max(0, self._path.stat().st_size - 2_000_000))
            return f"line {number} ".encode() in file.read()

    def has_all(self, number: int) -> bool:
        return len({number for number, _ in self._rows()}) == number

    def check(self, written: int, kills: int) -> None:
        seen: dict[int, float] = {}
        repeated: set[float] = set()
        for number, batch in self._rows():
            if number in seen:
                repeated.add(seen[number])
            seen.setdefault(number, batch)
        assert sorted(seen) == list(range(written))
        assert len(repeated) <= kills, f"{len(repeated)} batches came again after {kills} kills"


class AtIntake:
    """Datadog's intake, in a thread of its own, behind the `datadog` sink and its queue on disk.

    Attributes:
        handed_on: times of the batches that the listener handed on once more, as it did not know that they were queued.
        sent: numbers of the requests that were sent once more, as the sink did not know that they were taken.
    """

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._seen: dict[int, tuple[int, int]] = {}
        self._requests = 0
        self.handed_on: set[int] = set()
        self.sent: set[int] = set()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    @property
    def options(self) -> str:
        return f"type: datadog, api_key: '{KEY}', base_url: 'http://127.0.0.1:{self._port}', flush: 100ms"

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with intake(self._port, sees=self._see) as there:
            self.there: Intake = there
            self._ready.set()
            await self._stop.wait()

    def _see(self, taken: Taken) -> None:
        if not taken.path.endswith("logs"):
            return
        self._requests += 1
        for line in taken.body:
            number, time = number_of(line["message"]), line["timestamp"]
            if (known := self._seen.get(number)) is None:
                self._seen[number] = (time, self._requests)
            elif known[0] == time:  # the very one that was in the queue
                self.sent.add(known[1])
            else:
                self.handed_on.add(known[0])

    def has(self, number: int) -> bool:
        return number in self._seen

    def has_all(self, number: int) -> bool:
        return len(self._seen) == number

    def check(self, written: int, kills: int) -> None:
        assert sorted(self._seen) == list(range(written))
        again = f"{len(self.handed_on)} batches were read, {len(self.sent)} requests sent again after {kills} kills"
        assert max(len(self.handed_on), len(self.sent)) <= kills, again  # one kill may meet a batch of either

    def __enter__(self) -> AtIntake:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)


RECEIVERS = {"file": OutFile, "datadog": AtIntake}

"""What a log line costs the log_file listener: from the bytes of a file to records that were handed on, 1 KB each.

CPU time of this process, its thread for files included; the sinks' part is another bench's figure. The configuration
has three secrets, which are looked for in every line.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from common import report

from vedette.emit import Channel, Emit
from vedette.metrics import Batch
from vedette.secrets import Masker
from vedette_checks.log_file import LogFile, LogFileConfig

LINES, SIZE, REPEATS = 30_000, 1_024, 4
TEXT = (
    "user request handled service payment latency of database in the quick status on path connection to pool worker "
    "retry order created GET /api/v1/items 200 ok timeout warning started with reply after ms bytes"
)


def texts() -> list[str]:
    """Words, and a number of up to five digits after each fifth."""
    source = random.Random(4)
    made, vocabulary = [], TEXT.split()
    for _ in range(LINES):
        words: list[str] = []
        size = 0
        while size < SIZE:
            words.append(source.choice(vocabulary))
            if source.random() < 0.2:
                words.append(f"{source.randrange(100_000)}ms")
            size += len(words[-1]) + 1
        made.append(" ".join(words))
    return made


def plain(text: str) -> str:
    """As a service writes it."""
    return f"2026-10-05T12:00:00.123Z INFO {text}"[: SIZE - 1]


def as_json(text: str, **more: Any) -> str:
    """As `vedette.instrument`'s formatter writes it."""
    head = {"timestamp": "2026-10-05T12:00:00.123Z", "status": "info", "logger": "payments.api"}
    more = {"dd.trace_id": "1234567890123456789", "dd.span_id": "987654321", "user": 5, **more}
    return json.dumps({**head, "message": text[: SIZE - 220], **more})


def as_cri(text: str) -> str:
    """As a container's runtime writes it."""
    return f"2026-10-05T12:00:00.123456789Z stdout F {text[: SIZE - 42]}"


def with_a_card(text: str) -> str:
    """One line of ten has something to replace."""
    return plain(text if hash(text) % 10 else f"card 4111 1111 1111 1111 password=hunter2 {text}")


async def follow(path: Path, options: dict[str, Any]) -> float:
    """Follow a file from its beginning to its end; returns CPU seconds."""
    config = LogFileConfig.model_validate({"name": "b", "paths": [str(path)], "start_position": "beginning", **options})
    seen, whole = 0, asyncio.Event()
    state: dict[str, Any] = {}

    async def flush(batch: Batch) -> None:
        nonlocal seen
        seen += len(batch.logs)
        state.update(batch.commits)
        if seen >= LINES:
            whole.set()

    check = LogFile(config, MappingProxyType(state))
    masker = Masker()
    for number in range(3):
        masker.add(f"{number}{'0123456789abcdef' * 2}"[:32])
    channel = Channel("log_file/b", "log_file", LogFile.metrics, LogFile.statuses, ("instance:b",), masker=masker)
    await check.open()
    begun = time.process_time()
    task = asyncio.create_task(check.serve(Emit(channel, time.time(), flush, time.time)))
    await whole.wait()
    took = time.process_time() - begun
    task.cancel()
    await asyncio.wait([task])
    await check.close()
    return took


def measure(folder: Path, make: Any, **options: Any) -> float:
    """Microseconds of CPU for a line, the least of some tries."""
    path = folder / "bench.log"
    path.write_text("".join(f"{make(text)}\n" for text in texts()))
    gc.freeze()
    return min(asyncio.run(follow(path, options)) for _ in range(REPEATS)) / LINES * 1e6


def main() -> None:
    """Each form of a line."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    with suppress(PermissionError):  # what others do on this core costs caches, which is no part of the answer
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as name:
        folder = Path(name)
        report(
            ("a line of text, 1 KB", measure(folder, plain), "us", "<= 4"),
            ("  without looking for card numbers and credentials",
             measure(folder, plain, card_numbers=False, credentials=False), "us", ""),
            ("  with one line of ten that has both", measure(folder, with_a_card), "us", ""),
            ("  with rules for lines and a pattern of one's own",
             measure(folder, plain, exclude_lines=["GET /health"], redact=[{"name": "email"}]), "us", ""),
            ("a line of JSON, 1 KB", measure(folder, as_json), "us", ""),
            ("a line of a container (CRI), 1 KB", measure(folder, as_cri, format="container"), "us", ""),
        )  # fmt: skip


if __name__ == "__main__":
    main()

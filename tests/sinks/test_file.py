from __future__ import annotations

import json
import logging
import os
import resource
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from sinks.parts import HERE, START, batch, running, sample, until
from vedette import Batch, Kind, Status
from vedette.kit import Sketch
from vedette.metrics import Event, LogRecord, ServiceCheck
from vedette.outbox import Receipt
from vedette.sinks.file import FileConfig, FileSink

pytestmark = pytest.mark.anyio
GAUGE = Kind.GAUGE


def make(path: Path, **options: Any) -> FileSink:
    return FileSink(FileConfig(type="file", path=path, **options))


async def write(sink: FileSink, *batches: Batch) -> None:
    async with running(sink) as outbox:
        for one in batches:
            outbox.put(one)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def level(number: int, padding: int = 0) -> Batch:
    return batch(sample("level", GAUGE, number, "x" * padding))


def numbers(path: Path) -> list[int]:
    return [item["value"] for item in read(path)]


def contents(folder: Path) -> dict[str, list[int]]:
    return {file.name: numbers(file) for file in folder.iterdir()}


def open_files() -> list[str]:
    return [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    tmp_path.chmod(0o500)
    return tmp_path


async def test_one_object_for_each_thing(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    sketch = Sketch(bins=((1.0, 2),), sum=2.0, min=1.0, max=1.0)
    whole = batch(
        sample("redis.mem.used", GAUGE, 1024, "instance:main"),
        sample("total", Kind.COUNTER, 17, at=START + 0.5),
        sample("revenue", GAUGE, Decimal("12345678901234567890.10"), "currency:EUR"),
        sample("users", Kind.SET, "änna\n"),
        sample("latency", Kind.DISTRIBUTION, sketch),
        statuses=(ServiceCheck("redis.can_connect", Status.CRITICAL, "refused", ("port:1",)),),
        events=(Event("Failover", "now", "error"),),
        logs=(LogRecord("a line", attributes={"where": Path("x")}),),
    )
    sink = make(path)
    await write(sink, whole, batch(sample("nowhere", GAUGE, 1), host=""))
    head = {"time": START, "check": "redis", "instance": "main", "host": HERE}
    sample_of_all = {"count": 2, "sum": 2.0, "min": 1.0, "max": 1.0, "bins": [[1.0, 2]]}
    assert read(path) == [
        {**head, "name": "redis.mem.used", "kind": "gauge", "value": 1024, "tags": ["instance:main"]},
        {**head, "time": START + 0.5, "name": "total", "kind": "counter", "value": 17, "tags": []},
        {**head, "name": "revenue", "kind": "gauge", "value": 1.2345678901234567e19, "tags": ["currency:EUR"]},
        {**head, "name": "users", "kind": "set", "value": "änna\n", "tags": []},
        {**head, "name": "latency", "kind": "distribution", "value": sample_of_all, "tags": []},
        {**head, "name": "redis.can_connect", "kind": "status", "value": 2, "status": "critical",
         "message": "refused", "tags": ["port:1"]},
        {**head, "name": "Failover", "kind": "event", "value": "now", "alert_type": "error", "tags": []},
        {**head, "name": "log", "kind": "log", "value": "a line", "level": "info", "attributes": {"where": "x"},
         "tags": []},
        {"time": START, "check": "redis", "instance": "main", "name": "nowhere", "kind": "gauge", "value": 1,
         "tags": []},
    ]  # fmt: skip
    exact = msgspec.json.Decoder(float_hook=Decimal).decode_lines(path.read_bytes())
    assert exact[2]["value"] == Decimal("12345678901234567890.10")
    assert str(exact[2]["value"]) == "12345678901234567890.10"
    assert (sink.errors, sink.lost) == (0, 0)


async def test_it_appends_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    await write(make(path), level(1))
    await write(make(path), batch(), level(2))
    assert numbers(path) == [1, 2]
    assert path.stat().st_mode & 0o007 == 0


async def test_rotation_by_size_keeps_so_many_files(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    await write(make(path), level(0, 100))
    line = path.stat().st_size
    path.unlink()
    await write(make(path, max_bytes=2 * line, keep=2), *(level(n, 100) for n in range(9)))
    assert contents(tmp_path) == {
        "samples.jsonl": [8],
        "samples.jsonl.1": [6, 7],
        "samples.jsonl.2": [4, 5],
    }


async def test_a_batch_larger_than_the_limit_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    large = batch(*(sample("level", GAUGE, n) for n in range(50)))
    await write(make(path, max_bytes=100, keep=1), level(-1), large, level(50))
    assert numbers(path) == [50]
    assert numbers(tmp_path / "samples.jsonl.1") == list(range(50))


async def test_an_empty_file_does_not_rotate(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    await write(make(path, max_bytes=10), level(1))
    assert contents(tmp_path) == {"samples.jsonl": [1]}


@pytest.mark.parametrize("way", ["renamed", "replaced", "removed", "truncated"])
async def test_rotation_by_others(tmp_path: Path, way: str) -> None:
    path, old = tmp_path / "samples.jsonl", tmp_path / "old"
    sink = make(path)
    async with running(sink) as outbox:
        outbox.put(level(1))
        await until(lambda: path.exists() and path.stat().st_size > 0, "the first line")
        if way in ("renamed", "replaced"):
            path.rename(old)
            if way == "replaced":
                path.touch()
        elif way == "removed":
            path.unlink()
        else:
            os.truncate(path, 0)
        outbox.put(level(2))
    assert numbers(path) == [2]
    assert not old.exists() or numbers(old) == [1]
    assert sink.lost == 0


async def outage(sink: FileSink, reason: str, mend: Any, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing can be written, nothing is settled; then the trouble is mended, and all of it arrives."""
    caplog.set_level(logging.INFO)
    settled: list[int] = []
    async with running(sink) as outbox:
        for n in range(3):
            outbox.put(level(n), Receipt(1, lambda n=n: settled.append(n)))  # type: ignore[misc]
        await until(lambda: sink.errors >= 2, "a second try")
        assert (sink.lost, outbox.delivered, outbox.dropped, settled) == (0, 0, 0, [])
        assert sink.trouble == f"{path}: {reason}"
        mend()
        await until(lambda: len(settled) == 3, "what was waiting")
        outbox.put(level(3))
    assert (numbers(path), settled) == ([0, 1, 2, 3], [0, 1, 2])
    assert caplog.messages == [f"{path}: {reason}", "sending again"]


async def test_a_missing_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "folder" / "samples.jsonl"
    await outage(make(path), "No such file or directory", path.parent.mkdir, path, caplog)


async def test_a_folder_in_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "samples.jsonl"
    path.mkdir()
    await outage(make(path), "Is a directory", path.rmdir, path, caplog)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
async def test_a_read_only_folder(read_only: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = read_only / "samples.jsonl"
    await outage(make(path), "Permission denied", lambda: read_only.chmod(0o700), path, caplog)


async def test_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "samples.jsonl"
    path.symlink_to("/dev/full")
    await outage(make(path), "No space left on device", path.unlink, path, caplog)


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file of this process may grow beyond 4096 bytes: a disk that fills up in the middle of a write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield 4096
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


async def test_a_write_that_is_cut_short_leaves_no_half_a_line(tmp_path: Path, small_files: int) -> None:
    path = tmp_path / "samples.jsonl"
    sink = make(path)
    long = batch(*(sample("level", GAUGE, n, "x" * 500) for n in range(100, 105)))
    async with running(sink) as outbox:
        for one in (long, long, level(1)):
            outbox.put(one)
        await until(lambda: sink.errors > 0, "the second one to fail")
    assert numbers(path) == [100, 101, 102, 103, 104]
    assert path.stat().st_size < small_files
    assert (sink.lost, outbox.dropped, sink.trouble) == (0, 6, f"{path}: File too large")


async def test_no_file_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    sink = make(path, max_bytes=100)
    async with running(sink) as outbox:
        for n in range(20):
            outbox.put(level(n))
        await until(lambda: outbox.delivered == 20, "the last line")
        assert [name for name in open_files() if str(tmp_path) in name] == [str(path)]
    assert [name for name in open_files() if str(tmp_path) in name] == []


@pytest.mark.parametrize(
    ("text", "size"), [("10MB", 10_000_000), ("512KiB", 524_288), (4096, 4096), ("1.5 GiB", 1_610_612_736)]
)
def test_sizes(text: Any, size: int) -> None:
    assert FileConfig(type="file", path=Path("x"), max_bytes=text).max_bytes == size


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_bytes": 0}, "greater than or equal to 1"),
        ({"max_bytes": "many"}, "could not parse value and unit"),
        ({"keep": 0}, "greater than or equal to 1"),
        ({"format": "csv"}, "'jsonl'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        FileConfig(type="file", path=Path("x"), **options)

"""What becomes of the bytes of a file: encodings, long lines, events of many lines, JSON, containers, rules."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from checks.log_file.parts import append, following
from vedette.instrument import JsonFormatter
from vedette.metrics import LogRecord
from vedette_checks.log_file.config import LogFileConfig
from vedette_checks.log_file.records import FAILED
from vedette_checks.log_file.redaction import Redactor

pytestmark = pytest.mark.anyio


async def read(
    folder: Path, content: str | bytes, expected: int, name: str = "a.log", **options: Any
) -> list[LogRecord]:
    append(folder / name, content)
    async with following(folder, **options) as follow:
        return await follow.wait_for(expected)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("utf-8", "\ufeffä€\nzwei\n".encode()),
        ("utf-16", "\ufeffä€\nzwei\n".encode("utf-16-le")),
        ("utf-16", "\ufeffä€\nzwei\n".encode("utf-16-be")),
        ("utf-16-le", "ä€\nzwei\n".encode("utf-16-le")),
        ("utf-16-be", "ä€\nzwei\n".encode("utf-16-be")),
        ("utf-16-le", "Ċ\u0a0a\nzwei\n".encode("utf-16-le")),
    ],
)
async def test_encodings(tmp_path: Path, encoding: str, data: bytes) -> None:
    records = await read(tmp_path, data, 2, encoding=encoding, multiline={"start": ".", "timeout": "100ms"})
    assert [record.message for record in records] == ["Ċ\u0a0a" if b"\x0a\x0a\x0a" in data else "ä€", "zwei"]


async def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (record,) = await read(tmp_path, b"caf\xe9 \xff\n", 1)
    assert record.message == "caf\ufffd \ufffd"
    (tmp_path / "latin").mkdir()
    (record,) = await read(tmp_path / "latin", b"caf\xe9\n", 1, encoding="latin-1")
    assert record.message == "café"


async def test_a_hole_that_a_truncation_left_under_a_writer(tmp_path: Path) -> None:
    (record,) = await read(tmp_path, b"\0" * 5_000 + b"first after it\n", 1)
    assert record.message == "first after it"


async def test_long_lines_are_cut_between_words(tmp_path: Path) -> None:
    long = "word " * 100 + "4111 1111 1111 " + "x" * 3_000
    async with following(tmp_path, max_line="500B") as follow:
        append(tmp_path / "a.log", f"{long}\nshort\n{'y' * 600}")
        first, second, third = await follow.wait_for(3)
        append(tmp_path / "a.log", "the rest of it\nnext\n")
        *_, last = await follow.wait_for(4)
        await follow.until(lambda: follow.total("log_file.truncated") == 2)
    assert first.message == "word " * 96 + "word...TRUNCATED..."
    assert second.message == "short"
    assert third.message.endswith("y...TRUNCATED...")
    assert last.message == "next"


async def test_a_megabyte_in_one_line(tmp_path: Path) -> None:
    first, second = await read(tmp_path, b"a b" * 700_000 + b"\nend\n", 2)
    assert 990_000 < len(first.message) <= 999_424
    assert first.message.endswith("...TRUNCATED...")
    assert second.message == "end"


async def test_events_of_many_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    async with following(tmp_path, multiline={"start": r"^\d{4}-", "timeout": "300ms"}) as follow:
        append(path, "2026-01-01 boom\n  at a\n")
        append(path, "  at b\n2026-01-02 next\n")
        records = await follow.wait_for(2)  # the second as nothing followed it
        assert [record.message for record in records] == ["2026-01-01 boom\n  at a\n  at b", "2026-01-02 next"]
        append(path, "".join(f"  at {n}\n" for n in range(3)))
        await follow.wait_for(3)
    assert follow.messages[2] == "  at 0\n  at 1\n  at 2"


async def test_events_that_go_on(tmp_path: Path) -> None:
    options = {"multiline": {"continues": r"^\s", "timeout": "100ms", "max_lines": 3}}
    records = await read(tmp_path, "a\n b\nc\n 1\n 2\n 3\n", 3, **options)
    assert [record.message for record in records] == ["a\n b", "c\n 1\n 2", " 3"]


async def test_json_as_our_own_formatter_writes_it(tmp_path: Path) -> None:
    formatter = JsonFormatter(environment="prod", service="payments", version="1.2")
    record = logging.makeLogRecord({"name": "api", "levelname": "ERROR", "msg": "no %s", "args": ("money",)})
    record.created = 1_791_201_600.25
    line = formatter.format(record)
    (found,) = await read(tmp_path, f"{line}\n", 1, service="other", source="python")
    assert (found.message, found.level, found.time) == ("no money", "error", 1_791_201_600.25)
    assert found.attributes == {
        "service": "payments",
        "source": "python",
        "logger": "api",
        "environment": "prod",
        "version": "1.2",
        "dd.env": "prod",
        "dd.service": "payments",
        "dd.version": "1.2",
    }


@pytest.mark.parametrize(
    ("line", "message", "level", "time"),
    [
        ({"msg": "m", "level": 30, "time": 1_791_201_600_250}, "m", "info", 1_791_201_600.25),  # pino
        ({"event": "m", "level": "warn", "timestamp": "2026-10-05T12:00:00.25Z"}, "m", "warning", 1_791_201_600.25),
        ({"message": "m", "severity": 3, "@timestamp": "2026-10-05T14:00:00.250000000+02:00"}, "m", "error",
         1_791_201_600.25),
        ({"log": "m", "levelname": "FATAL", "asctime": "2026-10-05 12:00:00,250"}, "m", "critical", 1_791_201_600.25),
        ({"level": {"odd": 1}, "time": "soon"}, "", "info", None),
        ({"msg": "m", "status": "failed", "level": "error", "date": "2026-10-05", "ts": "1791201600.25"}, "m", "error",
         1_791_201_600.25),
        ({"msg": "m", "status": "ok", "severity": "Warning", "timestamp": "2026-10-05 12:00:00.25 UTC"}, "m", "warning",
         1_791_201_600.25),
        ({"msg": "m", "status": "success", "time": "20261005", "ts": "1791201600250000000"}, "m", "info",
         1_791_201_600.25),
        ({"msg": "m", "level": "verbose", "time": "12:00:01"}, "m", "trace", None),
    ],
)  # fmt: skip
async def test_json_of_others(tmp_path: Path, line: Any, message: str, level: str, time: float | None) -> None:
    (found,) = await read(tmp_path, json.dumps({**line, "dd.trace_id": "12"}) + "\n", 1, timezone="UTC")
    assert (found.message, found.level, found.time) == (message, level, time)
    assert found.attributes["dd.trace_id"] == "12"
    if line.get("status") == "failed":
        assert (found.attributes["status"], found.attributes["date"]) == ("failed", "2026-10-05")


async def test_times_without_a_zone_are_of_the_zone_that_is_given_or_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "".join(
        json.dumps({"message": "m", "time": time}) + "\n"
        for time in ("2026-10-05 20:00:00.5", "2026-10-05T12:00:00.5Z", "0001-01-01 00:00:00", 10**400)
    )
    given = [1_791_201_600.5, 1_791_201_600.5]
    (tmp_path / "given").mkdir()
    found = await read(tmp_path / "given", content, 4, timezone="Asia/Singapore")
    assert [record.time for record in found[:2]] == given
    assert found[3].time is None
    monkeypatch.setenv("TZ", "Asia/Singapore")
    time.tzset()
    try:
        found = await read(tmp_path, content, 4)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [record.time for record in found[:2]] == given
    with pytest.raises(ValidationError, match="must be a time zone"):
        LogFileConfig.model_validate({"name": "x", "paths": ["/x"], "timezone": "Asia/Nowhere"})


async def test_text_and_what_only_looks_like_json(tmp_path: Path) -> None:
    content = '{"broken": \nERROR: bad\nTERROR\n[warning] lower case says nothing\n{"message": "m"}\n'
    found = await read(tmp_path, content, 5)
    assert [record.level for record in found] == ["info", "error", "info", "info", "info"]
    assert found[0].message == '{"broken": '
    (tmp_path / "text").mkdir()
    (plain,) = await read(tmp_path / "text", '{"message": "m"}\n', 1, format="text", level="debug")
    assert (plain.message, plain.level) == ('{"message": "m"}', "debug")


def deep(depth: int, leaf: str) -> str:
    return '{"a":' * (depth - 1) + leaf + "}" * (depth - 1)


async def test_json_of_any_depth_is_shipped_and_redacted(tmp_path: Path) -> None:
    leaf = '{"password": "hunter2", "card": "\\u0034111111111111111"}'
    lines = [deep(depth, leaf) for depth in (64, 65, 300, 20_000)]
    append(tmp_path / "b.log", "another file\n")
    found = await read(tmp_path, "\n".join(["before", *lines, "after", ""]), 7)
    by_file = [record for record in found if "filename:a.log" in record.tags]
    assert [by_file[0].message, by_file[-1].message] == ["before", "after"]
    masked = '{"password": ****, "card": "****"}'
    assert [record.message for record in by_file[1:-1]] == ["", *(deep(n, masked) for n in (65, 300, 20_000))]
    assert json.dumps(by_file[1].attributes).endswith('{"password": "****", "card": "****"}' + "}" * 63)
    container = [f'{{"log": "one {n}\\n", "attrs": {deep(n, leaf)}}}' for n in (3, 20_000)]
    (tmp_path / "docker").mkdir()
    one, other = await read(tmp_path / "docker", "\n".join([*container, ""]), 2, name=f"{'cd' * 32}-json.log")
    assert one.message == "one 3"
    assert "hunter2" not in other.message


async def test_a_line_whose_treatment_fails_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Redactor, fields: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError

    monkeypatch.setattr(Redactor, "fields", fails)
    async with following(tmp_path, exclude_lines=["drop"]) as follow:
        append(tmp_path / "a.log", 'before\ndrop\n{"password": "hunter2"}\n{"message": "m"}\nafter password=x\n')
        await follow.wait_for(4)
        assert follow.messages == ["before", FAILED, "m", "after password=****"]
        await follow.until(lambda: follow.total("log_file.dropped", "reason:error") == 1)
        assert follow.total("log_file.dropped", "reason:rule") == 1
        assert follow.total("log_file.redacted", "rule:credentials") == 1


async def test_rules_for_lines(tmp_path: Path) -> None:
    content = "".join(f"{n} {word}\n" for n, word in enumerate(["keep", "drop", "keep drop", "other", "keep ä"]))
    async with following(tmp_path, include_lines=["keep$", "^4"], exclude_lines=["drop"]) as follow:
        append(tmp_path / "a.log", content)
        await follow.wait_for(2)
        await follow.until(lambda: follow.total("log_file.dropped", "reason:rule") == 3)
    assert follow.messages == ["0 keep", "4 keep ä"]


CONTAINER = "api-7d4b9c6f5-x2x9z_payments_api-" + "ab" * 32 + ".log"


async def test_containers_of_kubernetes(tmp_path: Path) -> None:
    pods = tmp_path / "pods"
    pods.mkdir()
    (tmp_path / CONTAINER).symlink_to(pods / "0.log")
    append(
        pods / "0.log",
        "2026-10-05T12:00:00.250000001Z stdout P half \n"
        "2026-10-05T12:00:01Z stderr F trouble\n"
        "2026-10-05T12:00:02Z stdout F a line\n"
        '2026-10-05T12:00:03Z stdout F {"message": "m", "level": "warn"}\n'
        "2026-10-05T12:00:04Z stdout P never ",
    )
    async with following(tmp_path) as follow:
        first, second, third = await follow.wait_for(3)
        (pods / "0.log").rename(pods / "0.log.20261005-120005")  # as the kubelet does
        append(pods / "0.log", "2026-10-05T12:00:06Z stdout F after\n")
        *_, last = await follow.wait_for(4)
    assert {first.message, second.message} == {"half a line", "trouble"}
    by = {record.message: record for record in follow.records}
    assert by["half a line"].time == pytest.approx(1_791_201_600.25)
    assert (by["half a line"].level, by["trouble"].level, third.level) == ("info", "error", "warning")
    assert by["trouble"].attributes == {"service": "api", "stream": "stderr"}
    assert last.message == "after"
    assert set(last.tags) >= {
        "pod_name:api-7d4b9c6f5-x2x9z",
        "kube_namespace:payments",
        "container_name:api",
        "kube_container_name:api",
        f"container_id:{'ab' * 32}",
    }
    assert not any(tag.startswith("filename:") for tag in last.tags)


async def test_containers_of_docker(tmp_path: Path) -> None:
    lines = [
        {"log": "one\n", "stream": "stdout", "time": "2026-10-05T12:00:00.25Z"},
        {"log": "ha", "stream": "stderr", "time": "2026-10-05T12:00:01Z"},
        {"log": "lf\n", "stream": "stderr", "time": "2026-10-05T12:00:02Z"},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    name = f"{'cd' * 32}-json.log"
    one, two = await read(tmp_path, content, 2, name=name)
    assert (one.message, one.level, one.time) == ("one", "info", 1_791_201_600.25)
    assert (two.message, two.level, two.time) == ("half", "error", 1_791_201_601.0)
    assert f"container_id:{'cd' * 32}" in one.tags

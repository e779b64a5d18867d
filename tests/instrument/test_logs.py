"""JSON lines as Datadog reads them, whatever is logged."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry import trace

from vedette.instrument import JsonFormatter


def _no_json(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


class Log:
    """A logger of its own, and the lines that it wrote."""

    def __init__(self, **options: Any) -> None:
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(JsonFormatter(**options))
        self.logger = logging.Logger("shop.payments", logging.DEBUG)
        self.logger.addHandler(handler)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line, parse_constant=_no_json) for line in self._stream.getvalue().splitlines()]


@pytest.fixture
def log() -> Log:
    return Log(environment="prod", service="pay", version="7", static={"team": "a"})


def test_a_line(log: Log) -> None:
    log.logger.info("paid %s", Decimal("12.30"), extra={"payment": "p-1", "amount": Decimal("12.30"), "ids": [1, 2]})
    (line,) = log.lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "status": "info", "logger": "shop.payments", "message": "paid 12.30", "environment": "prod", "service": "pay",
        "version": "7", "dd.env": "prod", "dd.service": "pay", "dd.version": "7", "team": "a",
        "payment": "p-1", "amount": "12.30", "ids": [1, 2],
    }  # fmt: skip


def test_the_time_is_that_of_the_record() -> None:
    record = logging.makeLogRecord({"created": 1_790_000_000.125, "msg": "x", "levelname": "WARNING", "name": "n"})
    assert json.loads(JsonFormatter().format(record)) == {
        "timestamp": "2026-09-21T14:13:20.125Z", "status": "warning", "logger": "n", "message": "x",
    }  # fmt: skip


def test_tags_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DD_ENV": "e", "DD_SERVICE": "s", "APP_VERSION": "1"}.items():
        monkeypatch.setenv(name, value)
    log = Log()
    log.logger.info("x")
    assert log.lines[0].items() >= {"environment": "e", "dd.env": "e", "service": "s", "version": "1"}.items()


def test_exceptions(log: Log) -> None:
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        log.logger.exception("failed")
    log.logger.error("no exception", exc_info=True)
    first, second = log.lines
    assert (first["error.kind"], first["error.message"]) == ("ValueError", "bad\nthing")
    assert first["error.stack"].startswith("Traceback (most recent call last):\n")
    assert "error.kind" not in second


def test_ddtraces_ids_pass(log: Log) -> None:
    extra = {"dd.trace_id": "123", "dd.span_id": "4", "dd.env": "theirs", "dd.version": ""}
    log.logger.info("x", extra=extra)
    assert log.lines[0].items() >= {"dd.trace_id": "123", "dd.span_id": "4", "dd.env": "prod"}.items()


def test_opentelemetrys_ids_in_datadogs_form(log: Log) -> None:
    context = trace.SpanContext((5 << 64) + 17, 42, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        log.logger.info("in")
    log.logger.info("out")
    inside, outside = log.lines
    assert (inside["dd.trace_id"], inside["dd.span_id"]) == ("17", "42")
    assert "dd.trace_id" not in outside


def test_extra_keeps_what_is_named_like_a_member(log: Log) -> None:
    log.logger.info("paid", extra={"status": "completed", "service": "cards", "dd.service": "x", "empty": ""})
    (line,) = log.lines
    assert (line["status"], line["extra.status"]) == ("info", "completed")
    assert (line["service"], line["extra.service"], line["dd.service"]) == ("pay", "cards", "pay")
    assert not {"empty", "extra.dd.service"} & set(line)


class Array:
    """Compares like numpy's, element by element."""

    def __eq__(self, other: object) -> Any:
        return self

    __ne__ = __eq__
    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array with more than one element is ambiguous")

    def __str__(self) -> str:
        return "[1 2]"


class Rogue:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.fixture(autouse=True)
def nothing_on_stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert capsys.readouterr().err == ""


def test_whatever_is_logged_is_a_line(log: Log) -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    log.logger.info("too few %s %s", 1)
    log.logger.info("rogue %s", Rogue())
    log.logger.info(Rogue())
    log.logger.info("x", extra={"rogue": Rogue(), "circle": circle, "lone": "\ud800", "keys": {(1, 2): 3}})
    log.logger.info("nan", extra={"value": float("nan"), "bytes": b"\xff", "set": {1}, "count": 3})
    log.logger.info("a\nb\x00\x1b[31m")
    log.logger.info("array", extra={"scores": Array()})
    lines = log.lines
    assert [line["message"] for line in lines] == [
        "too few %s %s (1,)", "rogue %s <tuple>", "<Rogue> ()", "x", "nan", "a\nb\x00\x1b[31m", "array",
    ]  # fmt: skip
    assert lines[3]["rogue"] == "<Rogue>"
    assert lines[6]["scores"] == "[1 2]"
    record = logging.makeLogRecord({"msg": "odd", "created": "yesterday"})
    assert json.loads(JsonFormatter().format(record)) == {
        "status": "error", "message": "odd", "error.kind": "TypeError",
    }  # fmt: skip
    assert (lines[4]["bytes"], lines[4]["value"], lines[4]["set"], lines[4]["count"]) == ("b'\\xff'", "nan", "{1}", 3)


def test_opentelemetry_is_not_loaded_for_it(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    log.logger.info("x")
    assert "opentelemetry.trace" not in sys.modules
    assert "dd.trace_id" not in log.lines[0]

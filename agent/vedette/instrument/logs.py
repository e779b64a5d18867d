"""Logs as JSON that Datadog reads without a pipeline: its reserved attributes, `dd.*`, and the constant tags."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; anything else was given by `extra=` or put there by a tracer."""
_LOW = (1 << 64) - 1


class JsonFormatter(logging.Formatter):
    """One line of JSON a record. Never raises: what JSON has no word for becomes text.

    What `extra=` names like a member of its own, `status` say, is `extra.status`; only `dd.*` of a tracer give way.

    Source: Datadog, "Log attributes and aliasing" (`timestamp`, `status`, `service`, `dd.trace_id`, `error.*`) and
    "Correlate Python logs and traces": ddtrace puts `dd.*` into records itself; the ids of OpenTelemetry are found
    where it is loaded, as Datadog's unsigned 64-bit decimals.

    Args:
        environment: Default: `ENVIRONMENT` or `DD_ENV`.
        service: Default: `DD_SERVICE`.
        version: Default: `APP_VERSION` or `DD_VERSION`.
        static: more members of every line.
    """

    def __init__(
        self,
        *,
        environment: str | None = None,
        service: str | None = None,
        version: str | None = None,
        static: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        env = os.environ
        named = {
            "environment": environment or env.get("ENVIRONMENT") or env.get("DD_ENV"),
            "service": service or env.get("DD_SERVICE"),
            "version": version or env.get("APP_VERSION") or env.get("DD_VERSION"),
        }
        self._static: dict[str, Any] = {key: value for key, value in named.items() if value}
        for key, value in (("dd.env", "environment"), ("dd.service", "service"), ("dd.version", "version")):
            if named[value]:
                self._static[key] = named[value]
        self._static |= dict(static or {})

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        try:
            return _json(self._line(record))
        except Exception as error:  # a record of some other kind; a line that is lost would be worse
            return _json({"status": "error", "message": _message(record), "error.kind": type(error).__name__})

    def _line(self, record: logging.LogRecord) -> dict[str, Any]:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "status": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **self._static,
        }
        line |= _trace()
        for key, value in vars(record).items():
            if key in _OWN or (isinstance(value, str) and not value):
                continue
            if key not in line:
                line[key] = value
            elif not key.startswith("dd."):
                line[f"extra.{key}"] = value
        if record.exc_info and record.exc_info[0] is not None:
            line["error.kind"] = record.exc_info[0].__name__
            line["error.message"] = _text(record.exc_info[1])
            line["error.stack"] = self.formatException(record.exc_info)
        elif record.stack_info:
            line["error.stack"] = record.stack_info
        return line


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit the format
        return f"{_text(getattr(record, 'msg', ''))} {_text(getattr(record, 'args', ''))}"


def _trace() -> dict[str, str]:
    """The ids of the current span of OpenTelemetry; nothing where it is not loaded or no span is open."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    try:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {"dd.trace_id": str(context.trace_id & _LOW), "dd.span_id": str(context.span_id)}
    except Exception:
        return {}


def _json(line: dict[str, Any]) -> str:
    try:
        return json.dumps(line, default=_text, allow_nan=False)
    except Exception:  # a number that is none, keys that are no text, a list in itself: only that value becomes text
        return json.dumps({str(key): _value(value) for key, value in line.items()})


def _value(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except Exception:
        return _text(value)
    return value


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"

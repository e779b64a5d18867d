"""Floor 2: the agent's own log: readable lines or one JSON object a line, secrets masked."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from vedette.secrets import OF_THIS_TASK

if TYPE_CHECKING:
    from vedette.config.model import LogConfig
    from vedette.secrets import Masker

_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m", "DEBUG": "\x1b[2m"}
_RESET = "\x1b[0m"
_NOISY = ("datadog", "asyncio", "urllib3", "watchfiles")
_INDISCREET = ("httpx", "httpcore", "hpack", "sqlalchemy", "aiosqlite", "aiobotocore", "botocore", "boto3", "aiohttp")
"""They log URLs, headers, statements, whole answers and their values: tokens among them that nobody can mask."""


class _Formatter(logging.Formatter):
    """Makes one masked line of a record; a traceback only appears at level debug."""

    def __init__(self, masker: Masker, *, debug: bool) -> None:
        super().__init__()
        self._masker = masker
        self._debug = debug

    def _message(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            if self._debug:
                text = f"{text}\n{self.formatException(record.exc_info)}"
            else:
                text = f"{text}: {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        return (OF_THIS_TASK.get() or self._masker)(text)


class TextFormatter(_Formatter):
    """`2026-11-23 20:59:42 WARNING redis/cache: …`, in colour on a terminal."""

    def __init__(self, masker: Masker, *, debug: bool, colour: bool) -> None:
        super().__init__(masker, debug=debug)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """One line, or more with a traceback."""
        stamp = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S")
        level = f"{record.levelname:<7}"
        if self._colour and record.levelname in _COLOURS:
            level = f"{_COLOURS[record.levelname]}{level}{_RESET}"
        return f"{stamp} {level} {record.name.removeprefix('vedette.')}: {self._message(record)}"


class JsonFormatter(_Formatter):
    """One object a line: time (RFC 3339, UTC), level, logger, message, and `instance` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        made = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._message(record),
        }
        for key in ("instance", "sink"):
            if (value := getattr(record, key, None)) is not None:
                made[key] = value
        return json.dumps(made, ensure_ascii=False)


class _Handler(logging.StreamHandler[TextIO]):
    """Says of a record that cannot be written where it comes from, and not, as `logging` does, its arguments."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Write where, and what went wrong; nothing if that fails too."""
        error = sys.exc_info()[1]
        if error is None or isinstance(error, OSError):  # the stream is gone: there is nowhere to say it
            return
        where = f"{record.pathname}:{record.lineno}"
        said = "a line of the log cannot be written (%s), its text and its arguments do not fit: %s"
        fields = {"levelno": logging.ERROR, "levelname": "ERROR", "name": record.name}
        with suppress(Exception):
            line = logging.makeLogRecord({**fields, "msg": said, "args": (type(error).__name__, where)})
            self.stream.write(self.format(line) + self.terminator)
            self.flush()


def forget(*names: str) -> None:
    """Let go of loggers whose instances are gone: the logging module keeps every name that it ever heard."""
    known = logging.Logger.manager.loggerDict
    for name in names:
        logger = known.get(name)
        if isinstance(logger, logging.Logger) and logger.handlers == []:
            del known[name]
            _forget_in_parents(name, logger)


def _forget_in_parents(name: str, logger: logging.Logger) -> None:
    known = logging.Logger.manager.loggerDict
    while "." in name:
        name = name.rpartition(".")[0]
        parent = known.get(name)
        if not isinstance(parent, logging.PlaceHolder):
            continue
        parent.loggerMap.pop(logger, None)
        if not parent.loggerMap:
            del known[name]


def set_up(options: LogConfig, masker: Masker, stream: TextIO | None = None) -> None:
    """Send everything logged to a stream (standard error by default), as `log:` of agent.yaml wants it."""
    handler = _Handler(stream or sys.stderr)
    debug = options.level == "debug"
    handler.setFormatter(
        JsonFormatter(masker, debug=debug)
        if options.format == "json"
        else TextFormatter(masker, debug=debug, colour=handler.stream.isatty())
    )
    logging.basicConfig(handlers=[handler], level=options.level.upper(), force=True)
    for name in _NOISY:  # sinks and checks report these clients' failures themselves, once and in one sentence
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.CRITICAL)
    for name in _INDISCREET:
        logging.getLogger(name).setLevel(logging.CRITICAL)

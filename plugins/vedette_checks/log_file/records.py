"""From an event to a log record: JSON's own message, level and time, or a line of text with a level in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import repeat
from math import inf
from typing import Any, NamedTuple

import msgspec

from vedette_checks.log_file.config import LogFileConfig
from vedette_checks.log_file.containers import Piece
from vedette_checks.log_file.lines import Taken
from vedette_checks.log_file.patterns import Block, Rules
from vedette_checks.log_file.redaction import Redactor, blot_keys
from vedette_checks.log_file.rules import KEY_BEGINS

Row = tuple[str, str, float | None, Mapping[str, Any]]


class Rows(NamedTuple):
    """Log records in columns, which costs less than each on its own.

    Attributes:
        messages: one each.
        levels: likewise.
        times: Unix seconds where the line says them; perhaps more of them.
        attributes: likewise.
    """

    messages: list[str]
    levels: Iterable[str]
    times: Iterable[float | None]
    attributes: Iterable[Mapping[str, Any]]


def columns(rows: Iterable[Row]) -> Rows:
    """The same records in columns."""
    messages, levels, times, attributes = (
        map(list, zip(*rows, strict=True)) if (rows := list(rows)) else ([], [], [], [])
    )
    return Rows(messages, levels, times, attributes)


_MESSAGE = ("message", "msg", "log", "event", "short_message", "MESSAGE")
_LEVEL = ("status", "level", "severity", "levelname", "log.level", "syslog.severity")
_TIME = ("timestamp", "@timestamp", "time", "ts", "_timestamp", "Timestamp", "eventTime", "date", "asctime")
_SERVICE = ("service", "dd.service", "syslog.appname")

_WORD = re.compile(
    r"(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERR(?:OR)?|CRIT(?:ICAL)?|FATAL|ALERT|EMERG(?:ENCY)?|PANIC|SEVERE)\b"
)  # where it begins is asked afterwards: a pattern that begins with letters is found three times as fast
_NEAR = 80
_LEVELS = {
    "warn": "warning",
    "err": "error",
    "severe": "error",
    "crit": "critical",
    "fatal": "critical",
    "panic": "emergency",
    "emerg": "emergency",
    "information": "info",
    "informational": "info",
    "verbose": "trace",
    "fine": "debug",
    "finer": "trace",
    "finest": "trace",
    "config": "info",
    "dpanic": "critical",
    "alarm": "alert",
}
_SYSLOG = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
_TENS = {10: "trace", 20: "debug", 30: "info", 40: "warning", 50: "error", 60: "critical"}
_KNOWN_LEVELS = frozenset((*_SYSLOG, *_TENS.values()))
_OF_UTC = ("UTC", "GMT")
_DIGITS = re.compile(r"[0-9]{9,20}(?:\.[0-9]{1,9})?")
_MINUTE = len("20261005T12:00")
_MICRO = len("2026-10-05T12:00:00.123456")
_NANO = re.compile(r"(\.\d{6})\d+")
_DEEPEST = 64
"""Levels of JSON within each other; what goes deeper is taken for text, as no stack is there for any depth."""
FAILED = "a line that could not be read was left out"
"""What stands in the place of a line whose treatment failed."""
_decode = msgspec.json.Decoder().decode


def level_of(value: Any) -> str | None:
    """A level as logging has it, of a word or a number of syslog's (RFC 5424) or pino's; None if it is none."""
    if isinstance(value, str):
        word = value.strip().lower()
        word = _LEVELS.get(word, word)
        return word if word in _KNOWN_LEVELS else None
    if isinstance(value, int) and not isinstance(value, bool):
        return _SYSLOG[value] if 0 <= value <= 7 else _TENS.get(value)
    return None


def time_of(value: Any, zone: tzinfo | None = UTC) -> float | None:
    """Unix seconds of a time.

    Args:
        value: an ISO 8601 text, perhaps with `UTC` or `GMT` behind it, or seconds, milli-, micro- or nanoseconds, also
            as text. A date alone is no time.
        zone: of a text that names none; None is the machine's.
    """
    if isinstance(value, str):
        text = value.strip()
        if len(text) < _MINUTE:
            return time_of(_number(text), zone)
        if text.endswith(_OF_UTC):
            text = text[:-3].rstrip() + "+00:00"
        if len(text) > _MICRO or "," in text:
            text = _NANO.sub(r"\1", text.replace(",", ".", 1))
        try:
            found = datetime.fromisoformat(text)
            return (found if found.tzinfo is not None else found.replace(tzinfo=zone)).timestamp()
        except (ValueError, OverflowError, OSError):  # the machine's zone knows no year 1
            return time_of(_number(text), zone)
    if isinstance(value, int | float) and not isinstance(value, bool):
        for scale in (1, 1_000, 1_000_000, 1_000_000_000):
            if 100_000_000 * scale <= value < 10_000_000_000 * scale:
                return value / scale
    return None


def _number(text: str) -> float | None:
    """What digits say, perhaps with a fraction."""
    if not _DIGITS.fullmatch(text):
        return None
    return float(text) if "." in text else int(text)


class TooManyError(Exception):
    """There are more lines than may be taken at once."""


class _Looker:
    """Finds the level that a line of text names near its beginning.

    Args:
        default: of lines that name none.
    """

    def __init__(self, default: str) -> None:
        self._default = default

    def level(self, text: str) -> str:
        """That of one line."""
        found = self._find(text)
        return self._default if found is None else found[0]

    def levels(self, texts: Iterable[str]) -> list[str]:
        """Those of many. Mostly one has it at the same place as the line before, which is seen at a glance."""
        made: list[str] = []
        level, word, at = self._default, "", -1
        for text in texts:
            if at < 0 or not text.startswith(word, at):
                found = self._find(text)
                level, word, at = found if found is not None else (self._default, "", -1)
            made.append(level)
        return made

    @staticmethod
    def _find(text: str) -> tuple[str, str, int] | None:
        """The level, the word with what is around it, and where that begins."""
        found = _WORD.search(text, 0, _NEAR)
        if found is None:
            return None
        begin, end = found.span()
        if begin and text[begin - 1].isalnum():
            return None
        at, word = max(0, begin - 1), found[0].lower()
        around = text[at : end + 1]
        return _LEVELS.get(word, word), around, at if len(around) == end + 1 - at else -1


class Records:
    """Makes rows of events, and leaves out and replaces what the options say.

    Args:
        config: the options.
        known: blots out the secrets of the configuration.
    """

    def __init__(self, config: LogFileConfig, known: Callable[[str], str] = str) -> None:
        self.redactor = Redactor(config, known)
        self.left_out = 0
        """Lines dropped by `include_lines` and `exclude_lines`, since that was last told."""
        self.failed = 0
        """Lines whose treatment failed, since that was last told; `FAILED` stands in their places."""
        self._include, self._exclude = Rules(config.include_lines), Rules(config.exclude_lines)
        self._keys = config.credentials
        self._json = config.format != "text"
        self._zone = config.zone
        self._looks = config.level == "auto"
        self._level = "info" if self._looks else config.level
        self._looker, self._on_stderr = _Looker(self._level), _Looker("error")
        self._constant = {key: value for key in ("service", "source") if (value := getattr(config, key))}

    def rows(self, taken: Taken, key_lines: int = 0, service: str = "", most: float = inf) -> tuple[Rows, int]:
        """The records of what was taken from a file.

        Args:
            taken: its events.
            key_lines: what this has returned for the events before.
            service: what to call the service where nothing says it.
            most: lines that may be in a text.

        Returns:
            They, and how many lines of a private key may follow.

        Raises:
            TooManyError: there are more.
        """
        left_out, counts = self.left_out, self.redactor.counts.copy()
        block = Block(taken.events, taken.text)
        try:
            return self._rows(block, taken.pieces, key_lines, service, most if taken.text is not None else inf)
        except TooManyError:
            raise
        except Exception:  # whatever it was: no line may keep those after it from being shipped
            self.left_out, self.redactor.counts = left_out, counts
        made: list[Row] = []
        for number, event in enumerate(block.events):
            pieces = None if taken.pieces is None else [taken.pieces[number]]
            try:
                rows, key_lines = self._rows(Block([event]), pieces, key_lines, service)
                made += zip(*rows, strict=False)
            except Exception:
                self.failed += 1
                made.append((FAILED, "error", None, self._constant))
        return columns(made), key_lines

    def _rows(
        self, block: Block, pieces: Sequence[Piece] | None, key_lines: int, service: str, most: float = inf
    ) -> tuple[Rows, int]:
        suspects = self.redactor.suspects(block)
        if self._keys and (key_lines or (suspects and KEY_BEGINS in block.text)):
            events = block.events.copy()
            key_lines = blot_keys(events, key_lines)
            block = Block(events)
            suspects = self.redactor.suspects(block)
        plain = pieces is None and b"{" not in block.text
        number = len(block.texts if plain else block.events)
        if number > most:
            raise TooManyError
        chosen = self._chosen(block, number)
        self.left_out += number - len(chosen)
        constant = {"service": service, **self._constant} if service else self._constant
        if plain:
            return self._plain(block, chosen, suspects, constant), key_lines
        return columns(self._any(block, chosen, suspects, constant, pieces)), key_lines

    def _chosen(self, block: Block, number: int) -> Sequence[int]:
        """The numbers of those of so many events that the rules let pass."""
        chosen: Sequence[int] = sorted(self._include.matching(block)) if self._include else range(number)
        if self._exclude:
            left_out = self._exclude.matching(block)
            chosen = [number for number in chosen if number not in left_out]
        return chosen

    def _plain(
        self, block: Block, chosen: Sequence[int], suspects: Collection[int], constant: Mapping[str, Any]
    ) -> Rows:
        texts = block.texts
        if len(chosen) < len(texts):
            texts = [texts[number] for number in chosen]
        elif suspects:
            texts = texts.copy()  # what may come in the place of one is not the block's
        for place, number in enumerate(chosen) if suspects else ():
            if number in suspects:
                texts[place] = self.redactor.text(texts[place])
        if "" in texts:
            texts = [text for text in texts if text]
        levels = self._looker.levels(texts) if self._looks else repeat(self._level)
        return Rows(texts, levels, repeat(None), repeat(constant))

    def _any(
        self,
        block: Block,
        chosen: Sequence[int],
        suspects: Collection[int],
        constant: Mapping[str, Any],
        pieces: Sequence[Piece] | None,
    ) -> Iterator[Row]:
        for number in chosen:
            event = block.events[number]
            if not event:
                continue
            piece = pieces[number] if pieces is not None else None
            fields = self._fields(event) if self._json else None
            if fields is None:
                yield self._line(event, number in suspects, constant, piece)
            else:
                if number in suspects:
                    fields = self.redactor.fields(fields)
                yield self._object(fields, constant, piece)

    @staticmethod
    def _fields(event: bytes) -> dict[str, Any] | None:
        if event[:1] != b"{" and event.lstrip()[:1] != b"{":
            return None
        try:
            found = _decode(event)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return found if isinstance(found, dict) and not _is_deep(event, found) else None

    def _line(self, event: bytes, suspect: bool, constant: Mapping[str, Any], piece: Piece | None) -> Row:
        text = event.decode("utf-8", "replace")
        if suspect:
            text = self.redactor.text(text)
        level = self._level
        if self._looks:
            looker = self._on_stderr if piece is not None and piece.stream == "stderr" else self._looker
            level = looker.level(text)
        return text, level, time_of(piece.time) if piece is not None and piece.time else None, _about(constant, piece)

    def _object(self, fields: dict[str, Any], constant: Mapping[str, Any], piece: Piece | None) -> Row:
        message = next((fields.pop(key) for key in _MESSAGE if isinstance(fields.get(key), str)), "")
        level, time = None, None
        for key in _LEVEL:
            if key in fields and (level := level_of(fields[key])) is not None:
                del fields[key]
                break
        for key in _TIME:
            if key in fields and (time := time_of(fields[key], self._zone)) is not None:
                del fields[key]
                break
        if piece is not None:
            time = time if time is not None else time_of(piece.time)
            level = level or ("error" if piece.stream == "stderr" else None)
        named = next((fields[key] for key in _SERVICE if isinstance(fields.get(key), str) and fields[key]), "")
        about = {**_about(constant, piece), **fields}
        if named:
            about["service"] = named
        return message, level or self._level, time, about


def _is_deep(event: bytes, found: Any) -> bool:
    """Whether JSON goes deeper than `_DEEPEST`; of most lines their brackets say that it does not."""
    if event.count(b"{") + event.count(b"[") <= _DEEPEST:
        return False
    level = [found]
    for _ in range(_DEEPEST):
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
        level = [inner for inner in level if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _about(constant: Mapping[str, Any], piece: Piece | None) -> Mapping[str, Any]:
    if piece is None or not piece.stream:
        return constant
    return {**constant, "stream": piece.stream}

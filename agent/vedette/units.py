"""Floor 0: durations and sizes as users write them and as people read them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT])?(i)?B?", re.ASCII)


def parse_duration(value: Any) -> float:
    """Seconds in a duration such as `500ms`, `15s`, `5m`, `1h`, `1d`; a bare number is seconds.

    Raises:
        ValueError: the value is none of these; its text does not repeat the value.
    """
    if isinstance(value, bool):
        raise PydanticCustomError("vedette", "must be a duration such as 500ms, 15s, 5m, 1h or 1d")
    if isinstance(value, int | float) and 0 <= value < float("inf"):
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError("vedette", "must be a duration such as 500ms, 15s, 5m, 1h or 1d")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def format_duration(seconds: float) -> str:
    """A duration for people: `850us`, `12ms`, `1.5s`, `5m`, `2h 5m`, `3d 4h`."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    whole = round(seconds)
    for size, big, small_size, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size}{big} {rest}{small}" if rest else f"{whole // size}{big}"
    return f"{whole}s"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)?$"},
            ]
        }
    ),
]
"""A length of time in seconds, written in YAML as `500ms`, `15s`, `5m`, `1h`, `1d` or a bare number."""


def parse_size(value: Any) -> int:
    """Bytes in a size such as `512MB`, `1.5GB`, `64KiB`; a bare number is bytes. KB, MB, … are powers of 1024 too.

    Raises:
        ValueError: the value is none of these; its text does not repeat the value.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or (match[3] and not match[2]):
        raise PydanticCustomError("vedette", "must be a size such as 512MB or 2GB")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2] or " "))


def format_size(size: int) -> str:
    """A size as users write it: `512MB`, `1.5GB`, `900KB`."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "KB")):
        if size >= 1024**power:
            return f"{size / 1024**power:.4g}{unit}"
    return f"{size}B"


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^\d+(\.\d+)? ?([KMGT]i?)?B?$"},
            ]
        }
    ),
]
"""A number of bytes, written in YAML as `512MB`, `2GB` or a bare number."""

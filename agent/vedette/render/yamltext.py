"""Floor 2: plain data as the YAML that a person would write: short collections on one line, quotes where needed."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import yaml

_SAFE = re.compile(r"[A-Za-z0-9_./:+-]+( [A-Za-z0-9_./+-]+)*")
_WIDTH = 90


def flow(value: Any) -> str:
    """The value on one line: `15s`, `"${env:X}"`, `[role:primary]`, `{read: get, scale: 2}`."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float | Decimal):
        text = f"{Decimal(str(value)):f}"  # without an exponent: YAML 1.1 takes 1e5 for a string
        return text if isinstance(value, Decimal) or "." in text else f"{text}.0"
    if isinstance(value, int):
        return str(value)
    return _string(str(value))


def _string(text: str) -> str:
    if _SAFE.fullmatch(text) and not text.startswith("-") and not text.endswith(":"):
        with suppress(yaml.YAMLError, ValueError):  # ValueError: 2024-13-45 looks like a date
            if yaml.safe_load(f"[{text}]") == [text]:
                return text
    return json.dumps(text, ensure_ascii=False)


def block(key: str, value: Any) -> list[str]:
    """The lines of `key: value`, on one line where that is readable, else indented by two."""
    line = f"{flow(key)}: {flow(value)}"
    nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))
    if not value or not nested:
        return [line]
    if isinstance(value, dict):
        return [line] if len(line) <= _WIDTH else [f"{flow(key)}:", *_indent(_mapping(value))]
    items: list[str] = []
    for item in value:
        short = f"- {flow(item)}"
        if len(short) <= _WIDTH or not isinstance(item, dict):
            items.append(short)
        else:
            first, *rest = _mapping(item)
            items += [f"- {first}", *_indent(rest)]
    return [f"{flow(key)}:", *_indent(items)]


def _mapping(value: dict[Any, Any]) -> list[str]:
    return [line for key, item in value.items() for line in block(key, item)]


def _indent(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]

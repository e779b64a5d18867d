"""The text format of Prometheus read by other means than the checks do, for comparing."""

from __future__ import annotations

import math
import re

_LINE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? +(\S+)(?: +(\S+))?$")
_PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\.")
_BARE = {"\\\\": "\\", "\\n": "\n", '\\"': '"'}

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Value by name, as exposed, and labels."""


def by_other_means(text: str) -> Series:
    """Every sample that has a value, by one regular expression."""
    found: Series = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels, value, _ = _LINE.fullmatch(line).groups()  # type: ignore[union-attr]
            pairs = ((key, _ESCAPED.sub(lambda one: _BARE[one[0]], text)) for key, text in _PAIR.findall(labels or ""))
            if not math.isnan(float(value)):
                found[name, frozenset(pairs)] = float(value)
    return found


def types(text: str) -> dict[str, str]:
    """Type by family."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))

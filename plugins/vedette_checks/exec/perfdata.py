"""The output of Monitoring Plugins: texts and perfdata.

Source: Monitoring Plugins Development Guidelines, "Plugin Output" and "Performance data"; Nagios Core, "Plugin API"
(several lines of text, with perfdata behind a bar in two places).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ITEM = re.compile(r"""\s*(?:'((?:[^']|'')+)'|([^\s=']+))=(\S*)""")
_WORD = re.compile(r"\S+")
_NUMBER = r"[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?"
_VALUE = re.compile(rf"({_NUMBER}|U)([^;\d]*)")
_PLAIN = re.compile(_NUMBER)
_MOST_STRANGE = 1_000
"""Words that are none after which no perfdata are looked for: a table with bars, say."""
_UNITS: dict[str, tuple[str, float]] = {
    "": ("", 1.0),
    "s": ("second", 1.0),
    "ms": ("second", 1e-3),
    "us": ("second", 1e-6),
    "µs": ("second", 1e-6),
    "ns": ("second", 1e-9),
    "%": ("percent", 1.0),
    "B": ("byte", 1.0),
    "c": ("counter", 1.0),
}
"""Units of measurement: what they become here, and by what the value is multiplied. `C` is a temperature."""
_BYTES = re.compile(r"([KMGTPkmgtp])i?B")
_PREFIXES = "kmgtp"
"""Kilobytes of plugins are 1,024. `Mb` are bits, which no unit here is: it stays as it is."""


@dataclass(frozen=True, slots=True)
class Perf:
    """One item of perfdata.

    Attributes:
        label: as printed, such as `/var`.
        value: in the base unit: seconds, bytes, percent, or as it is.
        unit: `second`, `byte`, `percent`, `counter` (a total), empty, or the plugin's own.
        thresholds: the plain numbers among `warning`, `critical`, `minimum` and `maximum`, in the base unit.
    """

    label: str
    value: float
    unit: str
    thresholds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a plugin said.

    Attributes:
        text: its first line.
        details: the other lines.
        items: its perfdata.
        strange: what stands among the perfdata and is none, the first thousand words.
        cut: items beyond those that were asked for.
    """

    text: str
    details: str
    items: tuple[Perf, ...]
    strange: tuple[str, ...]
    cut: int = 0


def read_output(output: str, most: int = 50_000) -> Reading:
    """Take a plugin's output apart: any output has a reading.

    Takes some 5 µs an item: call it in a thread where the output is long.

    Args:
        output: what it printed.
        most: items to read; the others are counted.
    """
    lines = output.splitlines()
    first, _, perfdata = lines[0].partition("|") if lines else ("", "", "")
    details: list[str] = []
    parts, in_perfdata = [perfdata], False
    for line in lines[1:]:
        if in_perfdata:
            parts.append(line)
            continue
        text, bar, rest = line.partition("|")
        details.append(text)
        if bar:
            in_perfdata = True
            parts.append(rest)
    items: list[Perf] = []
    strange: list[str] = []
    cut = 0
    for one in _items(" ".join(parts)):
        if isinstance(one, str):
            strange.append(one)
            if len(strange) >= _MOST_STRANGE:
                break
        elif len(items) < most:
            items.append(one)
        else:
            cut += 1
    return Reading(first.strip(), "\n".join(details).strip(), tuple(items), tuple(strange), cut)


def _items(text: str) -> Iterator[Perf | str]:
    """Each item; of what is none, its text. A value `U` is one that could not be told: it is left out."""
    at = 0
    while True:
        found = _ITEM.match(text, at)
        if found is not None:
            at = found.end()
            label = found[1].replace("''", "'") if found[1] is not None else found[2]
            one = _perf(label, found[3])
            if one is not None:
                yield one
            continue
        word = _WORD.search(text, at)
        if word is None:
            return
        at = word.end()
        yield word[0]


def _perf(label: str, text: str) -> Perf | str | None:
    value, *limits = text.split(";")
    found = _VALUE.fullmatch(value)
    if found is None:
        return f"{label}={text}"
    if found[1] == "U":
        return None
    unit, factor = _unit(found[2])
    names = ("warning", "critical", "minimum", "maximum")
    plain = {name: _float(one) * factor for name, one in zip(names, limits, strict=False) if _PLAIN.fullmatch(one)}
    return Perf(label, _float(found[1]) * factor, unit, plain)


def _unit(text: str) -> tuple[str, float]:
    if (bytes_ := _BYTES.fullmatch(text)) is not None:
        return "byte", 1024.0 ** (1 + _PREFIXES.index(bytes_[1].lower()))
    return _UNITS.get(text, (text, 1.0))


def _float(text: str) -> float:
    return float(text.replace(",", "."))

"""The output of Monitoring Plugins: texts and perfdata.

Source: Monitoring Plugins Development Guidelines, "Plugin Output" and "Performance data"; Nagios Core, "Plugin API"
(several lines of text, with perfdata behind a bar in two places).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ITEM = re.compile(r"""\s*(?:'((?:[^']|'')+)'|([^\s=']+))=(\S*)""")
_NUMBER = r"[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?"
_VALUE = re.compile(rf"({_NUMBER}|U)([^;\d]*)")
_PLAIN = re.compile(_NUMBER)
_UNITS: dict[str, tuple[str, float]] = {
    "": ("", 1.0),
    "s": ("second", 1.0),
    "ms": ("second", 1e-3),
    "us": ("second", 1e-6),
    "µs": ("second", 1e-6),
    "ns": ("second", 1e-9),
    "%": ("percent", 1.0),
    "b": ("byte", 1.0),
    "kb": ("byte", 1024.0),
    "mb": ("byte", 1024.0**2),
    "gb": ("byte", 1024.0**3),
    "tb": ("byte", 1024.0**4),
    "pb": ("byte", 1024.0**5),
    "kib": ("byte", 1024.0),
    "mib": ("byte", 1024.0**2),
    "gib": ("byte", 1024.0**3),
    "tib": ("byte", 1024.0**4),
    "pib": ("byte", 1024.0**5),
    "c": ("counter", 1.0),
}
"""Units of measurement: what they become here, and by what the value is multiplied: plugins' kilobytes are 1,024."""


@dataclass(frozen=True, slots=True)
class Perf:
    """One item of perfdata.

    Attributes:
        label: as printed, such as `/var`.
        value: in the base unit: seconds, bytes, percent, or as it is.
        unit: `second`, `byte`, `percent`, `counter` (a total), empty, or the plugin's own in lower case.
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
        strange: what stands among the perfdata and is none.
    """

    text: str
    details: str
    items: tuple[Perf, ...]
    strange: tuple[str, ...]


def read_output(output: str) -> Reading:
    """Take a plugin's output apart: any output has a reading."""
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
    for one in _items(" ".join(parts)):
        items.append(one) if isinstance(one, Perf) else strange.append(one)
    return Reading(first.strip(), "\n".join(details).strip(), tuple(items), tuple(strange))


def _items(text: str) -> Iterator[Perf | str]:
    """Each item; of what is none, its text. A value `U` is one that could not be told: it is left out."""
    at = 0
    while at < len(text):
        found = _ITEM.match(text, at)
        if found is None:
            rest = text[at:].lstrip()
            word = rest.split(None, 1)[0] if rest else ""
            at = len(text) - len(rest) + len(word)
            if word:
                yield word
            continue
        at = found.end()
        label = found[1].replace("''", "'") if found[1] is not None else found[2]
        one = _perf(label, found[3])
        if one is not None:
            yield one


def _perf(label: str, text: str) -> Perf | str | None:
    value, *limits = text.split(";")
    found = _VALUE.fullmatch(value)
    if found is None:
        return f"{label}={text}"
    if found[1] == "U":
        return None
    unit, factor = _UNITS.get(found[2].lower(), (found[2].lower(), 1.0))
    names = ("warning", "critical", "minimum", "maximum")
    plain = {name: _float(one) * factor for name, one in zip(names, limits, strict=False) if _PLAIN.fullmatch(one)}
    return Perf(label, _float(found[1]) * factor, unit, plain)


def _float(text: str) -> float:
    return float(text.replace(",", "."))

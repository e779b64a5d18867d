"""A diagnosis on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from vedette.advice import Grade
from vedette.cli.tables import terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from vedette.advice import Symptom
    from vedette.doctor import Case

_STYLES = {
    Grade.OK: "green",
    Grade.INFO: "blue",
    Grade.NOT_REACHED: "dim",
    Grade.WARNING: "yellow",
    Grade.FAILED: "bold red",
}


def print_cases(cases: Sequence[Case], out: Console | None = None) -> None:
    """One paragraph each, with what to apply below the line that needs it; on the terminal, or where `out` leads."""
    out = out or terminal()
    for place, case in enumerate(cases):
        if place:
            out.print()
        out.print(Text(case.name, "bold"))
        width = max((len(one.what) for one in case.symptoms), default=0)
        for symptom in case.symptoms:
            _print(out, symptom, width)


def _print(out: Console, symptom: Symptom, width: int) -> None:
    line = Text.assemble("  ", symptom.what.ljust(width), "  ", (symptom.grade.value.ljust(11), _STYLES[symptom.grade]))
    line.append(f"  {symptom.seen}")
    line.rstrip()
    out.print(line)
    indent = " " * (width + 17)
    if symptom.hint:
        out.print(Text(f"{indent}hint: {symptom.hint}", "cyan"))
    for row in symptom.snippet.splitlines():
        out.print(Text(f"{indent}> {row}", "bold"))

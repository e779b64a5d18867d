"""Alerts on the terminal (rich): the list, and what one rule sees."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vedette.cli.tables import moment, terminal
from vedette.rules.tree import span

_STYLES: Final = {
    "firing": "bold red",
    "acknowledged": "red",
    "fault": "red",
    "pending": "yellow",
    "ok": "green",
    "waiting": "dim",
}
_ORDER: Final = tuple(_STYLES)
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_WIDTH: Final = 60


def print_alerts(answer: dict[str, Any]) -> None:
    """Every rule and group, what fires first; then what is silenced."""
    console, now = terminal(), time.time()
    rows = sorted(answer["alerts"], key=lambda row: (_ORDER.index(row["state"]), row["key"]))
    if not rows:
        console.print("no alert rules: docs/alerts.md shows how to write some")
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("alert", "state", "severity", "since", "what is seen"):
            table.add_column(heading, overflow="fold")
        for row in rows:
            state, seen = row["state"], row["summary"].removeprefix(f"{row['rule']}: ")
            quiet = f" ({row['quiet']})" if row["quiet"] else ""
            since = moment(row["since"], now) if row["since"] else "-"
            table.add_row(Text(row["key"]), Text(f"{state}{quiet}", _STYLES[state]), row["severity"], since, Text(seen))
        console.print(table)
    for one in answer["silences"]:
        what = " ".join([*one["rules"], *one["tags"]])
        comment = f": {one['comment']}" if one["comment"] else ""
        console.print(Text(f"silence {one['id']}: {what}, until {clock(one['until'])}{comment}", "yellow"))
    if answer["trouble"]:
        console.print(Text(answer["trouble"], "bold red"))


def print_explained(answer: dict[str, Any]) -> None:
    """A rule with its condition, and for each group what it looks at."""
    console, now = terminal(), time.time()
    console.print(Text(answer["rule"], "bold"))
    console.print(Text(f"  {answer['file']}:{answer['line']}", "dim"))
    console.print(f"  when: {answer['condition']}", markup=False, highlight=False)
    for key, value in answer["options"].items():
        if key not in ("name", "when"):
            console.print(f"  {key}: {_option(value)}", markup=False, highlight=False)
    if not answer["groups"]:
        console.print("  no group was seen yet")
    for group in answer["groups"]:
        console.print(_group(group, now))


def _option(value: Any) -> str:
    if isinstance(value, float):
        return span(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _group(group: dict[str, Any], now: float) -> Group:
    evidence, state = group["evidence"], group["state"]
    lines = [Text.assemble("\n", (group["key"], "bold"), " ", (state, _STYLES[state]))]
    if group["since"]:
        lines[0].append(f" since {moment(group['since'], now)}")
    lines.append(Text(f"  {group['summary']}"))
    if group["quiet"]:
        lines.append(Text(f"  nobody is told: {group['quiet']}", "yellow"))
    values = evidence["values"]
    if values:
        ends = [value for _, value in values]
        span_text = f"{clock(values[0][0])} to {clock(values[-1][0])}, from {min(ends):g} to {max(ends):g}"
        lines.append(Text(f"  {spark(ends)}  {span_text}", "cyan"))
    if evidence["step"] or evidence["error"]:
        lines.append(Text(f"  {evidence['step'] or 'error: ' + evidence['error']}"))
    return Group(*lines)


def spark(values: list[float]) -> str:
    """The values as a line of blocks, at most sixty."""
    values = values[-_WIDTH:]
    low, high = min(values), max(values)
    if high == low:
        return _BLOCKS[4] * len(values)
    return "".join(_BLOCKS[1 + round((value - low) / (high - low) * 7)] for value in values)


def clock(when: float) -> str:
    """`14:00:47`, with the date where it is another day."""
    then, today = time.localtime(when), time.localtime()
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", then)

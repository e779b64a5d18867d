"""The plan on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vedette.cli.tables import STYLES, terminal

if TYPE_CHECKING:
    from vedette.advice import Estimate
    from vedette.plan import Line, Plan

_HEADINGS = ("metrics", "series", "custom", "of these named by Datadog", "points/run", "points/month", "$/month")


def print_plan(plan: Plan) -> None:
    """One row for each instance, the totals, what each sink gets, what the checks add, what is wrong."""
    out = terminal()
    out.print(_lines(plan))
    out.print()
    out.print(_sinks(plan))
    if not any(sink.custom_metrics for sink in plan.sinks):
        out.print(Text(f"No sink sends to Datadog. All of it would cost ${plan.if_billed:,.2f} a month there.", "dim"))
    for line in plan.instances:
        if line.estimates:
            out.print(Text(f"\n{line.id}", "bold"))
            out.print(_estimates(line.estimates))
    _print_trouble(plan)


def _lines(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("instance", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", overflow="fold")
    for line in (*plan.instances, *plan.agent):
        table.add_row(Text(line.id), Text(line.state, STYLES.get(line.state, "dim")), *_cells(line))
    total = plan.total
    numbers = (
        total.metrics, total.series, total.custom_metrics, total.integration_names, total.points_per_interval,
        total.points_per_month,
    )  # fmt: skip
    table.add_section()
    table.add_row("all", "", *(f"{number:,}" for number in numbers), f"{plan.if_billed:,.2f}", style="bold")
    return table


def _cells(line: Line) -> tuple[str | Text, ...]:
    found = line.figures
    if found is None:
        return ("-",) * len(_HEADINGS)
    series = f"{found.series:,} > {line.budget:,}" if line.exceeded else f"{found.series:,}"
    return (
        f"{found.metrics:,}",
        Text(series, "bold red" if line.exceeded else ""),
        f"{found.custom_metrics:,}",
        f"{found.integration_names:,}",
        f"{found.points_per_interval:,}",
        f"{found.points_per_month:,}",
        f"{line.usd_per_month:,.2f}",
    )


def _sinks(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("sink", no_wrap=True)
    for heading in ("series", "custom", "$/month"):
        table.add_column(heading, justify="right")
    for sink in plan.sinks:
        cost = (f"{sink.custom_metrics:,}", f"{sink.usd_per_month:,.2f}") if sink.custom_metrics else ("-", "-")
        table.add_row(Text(sink.name), f"{sink.series:,}", *cost)
    return table


def _estimates(estimates: tuple[Estimate, ...]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in estimates:
        value = "-" if one.value is None else f"{one.value:,.2f}".rstrip("0").rstrip(".")
        table.add_row(Text(f"  {one.what}"), value, one.unit, Text(one.hint, "yellow"))
    return table


def _print_trouble(plan: Plan) -> None:
    out = terminal()
    for line in plan.instances:
        if line.exceeded and line.figures is not None:
            out.print(Text(f"\n{line.id}: {line.figures.series:,} series, the budget is {line.budget:,}", "bold red"))
        if line.figures is None:
            out.print(Text(f"\n{line.id}: not measured: {line.message}", "red"))
            if line.hint:
                out.print(Text(f"  hint: {line.hint}", "cyan"))
    for sink in plan.sinks:
        for what in sink.exceeded:
            out.print(Text(f"\nsink {sink.name}: {what}", "bold red"))

"""Tables on the terminal (rich), for the commands that a person reads."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from vedette.control import is_muted, is_wrong, isolation, overall
from vedette.metrics import Kind, Sketch
from vedette.runner import HEALTH_METRICS, State
from vedette.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vedette.alerts.vitals import AlertVitals
    from vedette.control import Snapshot
    from vedette.errors import Problem
    from vedette.fleet.vitals import FleetVitals
    from vedette.metrics import Batch, Metric, Sample, Value
    from vedette.report import NotifierVitals, SinkVitals
    from vedette.runner import Runner, Vitals
    from vedette.scouts import ScoutVitals

_WIDE = 1_000
STYLES = {
    "ok": "green",
    "warning": "yellow",
    "critical": "bold red",
    "failing": "bold red",
    "stuck": "bold magenta",
    "unknown": "magenta",
}
_MOST_LOGS = 50


def terminal() -> Console:
    """The terminal, or a page wide enough that nothing folds when the output goes into a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE, soft_wrap=True)


def print_run(runner: Runner, batches: list[Batch]) -> None:
    """What the last run of an instance found: metrics with units and tags, statuses, timing."""
    console = terminal()
    vitals, instance = runner.vitals, runner.instance
    console.print(_headline(vitals))
    if not batches:
        return
    batch = batches[-1]
    declared = {metric.name: metric for metric in (*instance.plugin.declare(instance.config), *HEALTH_METRICS)}
    core = {metric.name for metric in HEALTH_METRICS}
    own = [set(sample.tags) for sample in batch.samples if sample.name not in core]
    common = set.intersection(*own) if own else set()
    if common:
        console.print(Text(f"tags: {', '.join(sorted(common))}", "dim"))
    console.print(_samples(batch, declared, common))
    for status in batch.statuses:
        line = Text.assemble(("● ", STYLES[status.status.name.lower()]), status.name, f" {status.status.name}")
        console.print(line.append(f"  {status.message}" if status.message else ""))
    for log in batch.logs[-_MOST_LOGS:]:
        console.print(Text.assemble((f"{log.level} ", STYLES.get(log.level, "")), log.message))
    if len(batch.logs) > _MOST_LOGS:
        console.print(Text(f"{len(batch.logs)} log lines; --json shows all", "dim"))
    counted = ", ".join(f"{number} {reason}" for reason, number in (vitals.dropped or {}).items())
    took = f"{len(batch.samples)} samples in {format_duration(vitals.duration)}"
    console.print(Text(f"{took}; dropped: {counted}" if counted else took, "dim"))


def _headline(vitals: Vitals) -> Text:
    text = Text.assemble((vitals.instance, "bold"), " ", (vitals.state.value, STYLES.get(vitals.state.value, "")))
    if vitals.message:
        text.append(f": {vitals.message}")
    if vitals.hint:
        text.append(f"\n  hint: {vitals.hint}", "cyan")
    return text


def _samples(batch: Batch, declared: dict[str, Metric], common: set[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("kind", style="dim", no_wrap=True)
    table.add_column("tags", style="dim", overflow="fold")
    timed = any(sample.time is not None for sample in batch.samples)
    if timed:
        table.add_column("time", style="dim", no_wrap=True)
    for sample, earlier in _newest(batch.samples):
        metric = declared.get(sample.name)
        own = [tag for tag in sample.tags if tag not in common]
        row: list[Text | str] = [
            Text(sample.name),
            _number(sample.value),
            _unit(metric, sample.kind),
            sample.kind.value,
        ]
        table.add_row(*row, Text(" ".join(own)), *([_when(sample.time, earlier)] if timed else ()))
    return table


def _newest(samples: Iterable[Sample]) -> Iterator[tuple[Sample, int]]:
    """The samples in order; of a series with times only the newest, and how many earlier ones there are."""
    series: dict[object, list[Sample]] = {}
    for place, sample in enumerate(samples):
        series.setdefault(place if sample.time is None else (sample.name, sample.tags), []).append(sample)
    newest = [(max(some, key=lambda one: one.time or 0.0), len(some) - 1) for some in series.values()]
    yield from sorted(newest, key=lambda each: (each[0].name, each[0].tags))


def _when(time: float | None, earlier: int) -> str:
    if time is None:
        return ""
    clock = datetime.fromtimestamp(time).strftime("%H:%M:%S")
    return f"{clock}, {earlier} earlier" if earlier else clock


def _unit(metric: Metric | None, kind: Kind) -> str:
    if metric is None:
        return ""
    if kind is Kind.RATE or not metric.per:  # a rate's sample is the total so far: only sinks divide it
        return metric.unit
    return f"{metric.unit}/{metric.per}"


def _number(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, Decimal):
        return f"{value:,f}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value.count} values" if isinstance(value, Sketch) else value


_KINDS: Final = {"discoveries": "discovery"}


def print_plugins(rows: Iterable[tuple[str, str, str, str]]) -> None:
    """What is installed: kind, name, package, first line of its description or why it does not load."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kind", "name", "package", "description"):
        table.add_column(heading, overflow="fold")
    for group, name, package, text in rows:
        table.add_row(_KINDS.get(group, group.removesuffix("s")), name, package, Text(text))
    terminal().print(table)


def print_notifiers(rows: Iterable[tuple[str, str, str]]) -> None:
    """A table of notifiers: name, type and which alerts they are told of."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("notifier", "type", "told of"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    terminal().print(table)


def instances_table(snapshot: Snapshot, title: str = "") -> Table:
    """The agent at a glance: every instance with status, last run, duration and next run."""
    table = Table(title=title or None, box=None, pad_edge=False, header_style="bold")
    for heading in ("instance", "status", "last run", "took", "next run", "runs", "samples", "message"):
        table.add_column(heading, justify="right" if heading in ("took", "runs", "samples") else "left")
    for vitals in snapshot.instances:
        table.add_row(*_vitals_row(vitals, snapshot.time))
    return table


def _vitals_row(vitals: Vitals, now: float) -> tuple[Any, ...]:
    ran = vitals.last_run > 0
    wait = vitals.next_run - now
    return (
        Text(vitals.instance),
        Text("muted" if is_muted(vitals, now) else vitals.state.value, STYLES.get(vitals.state.value, "dim")),
        datetime.fromtimestamp(vitals.last_run).strftime("%H:%M:%S") if ran else "-",
        format_duration(vitals.duration) if ran and vitals.state is not State.STARTING else "-",
        f"in {format_duration(wait)}" if wait > 0 else "-" if vitals.state is State.STANDBY else "now",
        str(vitals.runs),
        str(vitals.samples),
        Text(vitals.message, overflow="ellipsis"),
    )


def print_status(snapshot: Snapshot, *, single: bool = False) -> None:
    """How the running agent is: what is wrong first, then everything; or one instance in full."""
    console = terminal()
    if single:
        for vitals in snapshot.instances:
            console.print(_details(vitals, snapshot.time))
        return
    console.print(_summary(snapshot))
    parts: list[Any] = [
        _wrong(vitals, snapshot.time) for vitals in snapshot.instances if is_wrong(vitals, snapshot.time)
    ]
    parts += [_alert(one, snapshot.time) for one in (snapshot.alerts.alerts if snapshot.alerts is not None else ())]
    parts += [Text(""), instances_table(snapshot)] if snapshot.instances else []
    parts += [Text(""), _sinks_table(snapshot.sinks)] if snapshot.sinks else []
    parts += [Text(""), _notifiers_table(snapshot.notifiers)] if snapshot.notifiers else []
    parts += [Text(""), _discoveries_table(snapshot.discoveries)] if snapshot.discoveries else []
    parts += [Text(""), *_fleet_parts(snapshot.fleet)] if snapshot.fleet is not None else []
    parts += [Text(""), Text("configuration", "bold"), *map(_problem, snapshot.problems)] if snapshot.problems else []
    console.print(Group(*parts))


def _summary(snapshot: Snapshot) -> Text:
    wrong = sum(is_wrong(vitals, snapshot.time) for vitals in snapshot.instances)
    worst = overall(snapshot)
    failing = f"{wrong} failing" if wrong else "cut off from its fleet"
    words = {0: ("all is well", "green"), 1: ("warning", "yellow"), 2: (failing, "bold red")}
    up = format_duration(max(0.0, snapshot.time - snapshot.started))
    return Text.assemble(words[worst], f": {len(snapshot.instances)} instances on {snapshot.host}, up {up}")


def _wrong(vitals: Vitals, now: float) -> Text:
    text = Text.assemble(
        "\n● ",
        (vitals.instance, "bold"),
        " ",
        (vitals.state.value, STYLES.get(vitals.state.value, "")),
        f" since {moment(vitals.since, now)}\n  {vitals.message or 'no message'}",
    )
    return text.append(f"\n  hint: {vitals.hint}", "cyan") if vitals.hint else text


def _alert(alert: AlertVitals, now: float) -> Text:
    style = STYLES.get("critical" if alert.state == "firing" else "warning", "")
    head = Text.assemble("\n▲ ", (alert.key, "bold"), " ", (alert.state, style), f" since {moment(alert.since, now)}")
    seen = alert.summary.removeprefix(f"{alert.rule}: ")
    return head.append(f"\n  {seen}").append(f"\n  nobody is told: {alert.quiet}" if alert.quiet else "", "cyan")


def moment(when: float, now: float) -> str:
    """`14:00:47 (5m ago)`, with the date where it was not today."""
    then = datetime.fromtimestamp(when)
    today = then.date() == datetime.fromtimestamp(now).date()
    return (
        f"{then.strftime('%H:%M:%S' if today else '%Y-%m-%d %H:%M:%S')} ({format_duration(max(0.0, now - when))} ago)"
    )


def _details(vitals: Vitals, now: float) -> Group:
    table = Table(box=None, pad_edge=False, show_header=False)
    rows = {
        "since": moment(vitals.since, now) if vitals.since else "-",
        "last run": moment(vitals.last_run, now) if vitals.last_run else "-",
        "took": format_duration(vitals.duration) if vitals.runs else "-",
        "late by": format_duration(vitals.lateness) if vitals.runs else "-",
        "next run": f"in {format_duration(vitals.next_run - now)}" if vitals.next_run > now else "-",
        "runs": f"{vitals.runs:,}, {vitals.failures:,} failed, {vitals.skipped:,} skipped",
        "samples": f"{vitals.samples:,}",
        "dropped": ", ".join(f"{number:,} {reason}" for reason, number in (vitals.dropped or {}).items()) or "none",
        "backoff": f"{vitals.backoff} x the interval" if vitals.backoff != 1 else "",
        "isolated": isolation(vitals),
        "run on": f"one agent of the fleet ({vitals.run_on})" if vitals.run_on != "every_node" else "",
        "held the loop": f"{vitals.blocked:,} times" if vitals.blocked else "",
        "muted": f"for {format_duration(vitals.muted_until - now)} more" if is_muted(vitals, now) else "",
        "configured": f"{vitals.file}:{vitals.line}" if vitals.file else "",
        "made for": vitals.origin,
    }
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, "dim"), Text(value))
    return Group(_headline(vitals), table)


def _sinks_table(sinks: Iterable[SinkVitals]) -> Table:
    rows = ((one.name, (one.sent, one.queued, one.dropped, one.errors), one.trouble) for one in sinks)
    return _counts_table("sink", ("sent", "queued", "dropped", "errors"), rows)


def _notifiers_table(notifiers: Iterable[NotifierVitals]) -> Table:
    rows = ((one.name, (one.sent, one.queued, one.failed, one.errors), one.trouble) for one in notifiers)
    return _counts_table("notifier", ("sent", "queued", "given up", "errors"), rows)


def _discoveries_table(discoveries: Iterable[ScoutVitals]) -> Table:
    rows = ((one.name, (one.targets, one.instances, one.problems, one.errors), one.trouble) for one in discoveries)
    return _counts_table("discovery", ("found", "instances", "problems", "errors"), rows)


def _counts_table(first: str, counts: tuple[str, ...], rows: Iterable[tuple[str, tuple[int, ...], str]]) -> Table:
    """A row for each: its name, its counts, and its trouble."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for heading in counts:
        table.add_column(heading, justify="right")
    table.add_column("trouble")
    for name, numbers, trouble in rows:
        table.add_row(Text(name), *(f"{number:,}" for number in numbers), Text(trouble, "bold red"))
    return table


def _fleet_parts(fleet: FleetVitals) -> list[Any]:
    """What the fleet looks like from here: a line about this agent, and its members."""
    words = {"member": "green", "joining": "yellow", "lost": "bold red"}
    line = Text.assemble(f"fleet {fleet.name} ({fleet.backend}): ", (fleet.state, words.get(fleet.state, "dim")))
    line.append(f", lease for {format_duration(fleet.left)}" if fleet.left else "")
    line.append(f", {fleet.moves:,} moves, {fleet.errors:,} errors")
    if fleet.trouble:
        line.append(f"\n  {fleet.trouble}", "bold red")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("agent", "state", "owns", "changed"):
        table.add_column(heading, justify="right" if heading == "owns" else "left")
    for one in sorted(fleet.members, key=lambda member: member.identity):
        marks = [mark for mark, holds in (("this one", one.me), ("leader", one.identity == fleet.leader)) if holds]
        name = f"{one.identity} ({', '.join(marks)})" if marks else one.identity
        table.add_row(
            Text(name), "ready" if one.ready else "joining", f"{one.owns:,}", f"{format_duration(one.age)} ago"
        )
    return [line, table]


def _problem(problem: Problem) -> Text:
    return Text(str(problem), "red" if problem.severity == "error" else "yellow")

"""The HTML of the page. Every value goes through markupsafe: metric names, tags and errors are foreign text."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from markupsafe import Markup

from vedette.control import is_muted, isolation
from vedette.status.board import HEADINGS, clock_time
from vedette.status.spark import spark
from vedette.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vedette.alerts.vitals import AlertsVitals
    from vedette.errors import Problem
    from vedette.fleet.vitals import FleetVitals, MemberVitals
    from vedette.report import NotifierVitals, SinkVitals
    from vedette.runner import Vitals
    from vedette.scouts import ScoutVitals
    from vedette.status.board import Board, Row
    from vedette.status.history import History, Line

MOST_WRONG: Final = 20
"""Instances that are wrong and shown in full; the others stand in the table."""

_PAGE = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>%s</title>
<link rel="stylesheet" href="/static/page.css?%s">
<link rel="icon" href="/static/icon.svg?%s" type="image/svg+xml">
<script src="/static/page.js?%s" defer></script>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<p class="brand"><a href="/">vedette</a></p>
<p class="where">%s</p>
<p id="live" role="status">not live</p>
</header>
<main id="main" tabindex="-1" data-stamp="%s" data-at="%s">
%s
</main>
</body>
</html>
""")


def _page(title: str, assets: str, board: Board, content: Markup, at: int | str = "") -> str:
    zone = time.strftime("%Z")
    where = f"{board.snapshot.host} · {board.snapshot.directory} · times in {zone}"
    return _PAGE % (title, assets, assets, assets, where, board.stamp, at, content)


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("\n").join(parts)


# The first page


def index(board: Board, assets: str) -> str:
    """The page with everything, what is wrong first.

    Args:
        board: refreshed.
        assets: tells this version's style and script from older ones in the browser's store.
    """
    fragments = parts(board)
    content = _joined(
        [
            Markup('<div id="headline" aria-live="polite">%s</div>') % fragments["headline"],
            Markup('<div id="wrong">%s</div>') % fragments["wrong"],
            _instances(board),
            *(
                Markup('<div id="%s">%s</div>') % (name, fragments[name])
                for name in ("alerts", "fleet", "sinks", "notifiers", "discoveries", "problems")
            ),
        ]
    )
    word, sentence = board.headline
    return _page(f"{sentence} – vedette" if word != "ok" else "vedette", assets, board, content)


def parts(board: Board) -> dict[str, Markup]:
    """The parts of the first page that are sent whole when something in them changed, by their id."""
    return {
        "headline": Markup('<h1 class="overall %s">%s</h1>') % board.headline,
        "wrong": _wrong(board.wrong, board.snapshot.time),
        "alerts": _alerts(board.snapshot.alerts, board.snapshot.time),
        "fleet": _fleet(board.snapshot.fleet),
        "sinks": _sinks(board.snapshot.sinks),
        "notifiers": _notifiers(board.snapshot.notifiers),
        "discoveries": _discoveries(board.snapshot.discoveries),
        "problems": _problems(board.snapshot.problems),
    }


def _wrong(rows: Sequence[Row], now: float) -> Markup:
    if not rows:
        return Markup("")
    items = [Markup("<li>%s</li>") % _trouble(row, now) for row in rows[:MOST_WRONG]]
    more = len(rows) - MOST_WRONG
    rest = Markup("<p>and %d more, in the table below</p>") % more if more > 0 else ""
    return Markup("<h2>What is wrong</h2>\n<ul class=trouble>%s</ul>%s") % (_joined(items), rest)


def _trouble(row: Row, now: float) -> Markup:
    vitals = row.vitals
    heading = Markup('<h3><a id="w-%s" href="%s">%s</a> %s</h3>') % (
        vitals.instance,
        address(vitals.instance),
        vitals.instance,
        _state(row.state, vitals.state.value),
    )
    return heading + _error(vitals, now)


def _error(vitals: Vitals, now: float) -> Markup:
    """Since when it is so, what the error is, and how to mend it."""
    since = Markup('<p class="since">since %s</p>') % clock_time(vitals.since, now) if vitals.since else ""
    message = Markup('<p class="error">%s</p>') % vitals.message if vitals.message else ""
    hint = Markup('<p class="hint">%s</p>') % vitals.hint if vitals.hint else ""
    return Markup("%s%s%s") % (since, message, hint)


def _state(word: str, text: str) -> Markup:
    return Markup('<span class="state %s">%s</span>') % (word, text)


def _instances(board: Board) -> Markup:
    if not board.rows:
        return Markup("<h2>Instances</h2><p>None is configured.</p>")
    head = Markup("").join(Markup("<th scope=col>%s</th>") % text for text in ("instance", *HEADINGS))
    body = Markup("\n").join(map(_row, board.rows.values()))
    return Markup(
        '<div class="bar"><h2 id="instances">Instances</h2>'
        '<label>Filter <input id="filter" type="search" autocomplete="off" aria-keyshortcuts="/"></label></div>'
        '<div class="wide" role="region" aria-labelledby="instances" tabindex="0">'
        "<table><thead><tr>%s</tr></thead><tbody id=rows>\n%s\n</tbody></table></div>"
    ) % (head, body)


def _row(row: Row) -> Markup:
    name = row.vitals.instance
    return _ROW % (row.state, address(name), name, row.state, *row.cells)


_ROW = Markup(
    '<tr class="%s"><th scope=row><a href="%s">%s</a></th><td><span class="state %s">%s</span></td>'
    "<td>%s</td><td class=n>%s</td><td class=n>%s</td><td>%s</td><td class=n>%s</td><td class=message>%s</td></tr>"
)


def _sinks(sinks: Sequence[SinkVitals]) -> Markup:
    rows = [(one.name, (one.queued, one.sent, one.dropped, one.errors), one.trouble) for one in sinks]
    return _counted("sinks-title", "Sinks", ("sink", "queue", "sent", "dropped", "errors", "last error"), rows)


def _notifiers(notifiers: Sequence[NotifierVitals]) -> Markup:
    rows = [(one.name, (one.queued, one.sent, one.failed, one.errors), one.trouble) for one in notifiers]
    names = ("notifier", "queue", "sent", "given up", "errors", "last error")
    return _counted("notifiers-title", "Notifiers", names, rows)


def _discoveries(discoveries: Sequence[ScoutVitals]) -> Markup:
    rows = [(one.name, (one.targets, one.instances, one.problems, one.errors), one.trouble) for one in discoveries]
    names = ("discovery", "found", "instances", "problems", "errors", "last error")
    return _counted("found-title", "Discoveries", names, rows)


def _alerts(alerts: AlertsVitals | None, now: float) -> Markup:
    """What fires and what is about to; nothing where there are no rules."""
    if alerts is None:
        return Markup("")
    items = [
        Markup('<li><h3>%s <span class="%s">%s</span></h3><p>%s</p><p>since %s%s</p></li>')
        % (
            one.key,
            "failing" if one.state == "firing" and one.severity in ("critical", "error") else "warning",
            one.state,
            one.summary,
            clock_time(one.since, now),
            f", nobody is told: {one.quiet}" if one.quiet else "",
        )
        for one in alerts.alerts[:MOST_WRONG]
    ]
    rest = len(alerts.alerts) - MOST_WRONG
    more = Markup("<p>and %d more: `vedette alerts` lists them</p>") % rest if rest > 0 else ""
    rules = f"{alerts.rules} rule{'' if alerts.rules == 1 else 's'}"
    listed = Markup("<ul class=trouble>%s</ul>") % _joined(items)
    sentence = listed if items else Markup("<p>%s, none fires</p>") % rules
    return Markup("<h2>Alerts</h2>%s%s") % (sentence, more)


def _fleet(fleet: FleetVitals | None) -> Markup:
    if fleet is None:
        return Markup("")
    trouble = Markup('<p class="error">%s</p>') % fleet.trouble if fleet.trouble else Markup("")
    lines = [
        Markup('<tr class="ok"><th scope=row>%s</th><td>%s</td><td class=n>%s</td><td class=message>%s</td></tr>')
        % (
            one.identity,
            "ready" if one.ready else "joining",
            f"{one.owns:,}",
            ", ".join(word for word, holds in _roles(one, fleet) if holds),
        )
        for one in sorted(fleet.members, key=lambda member: member.identity)
    ]
    return Markup(
        '<h2 id="fleet-title">Fleet %s</h2><p>%s, on %s, %s moves so far</p>%s'
        '<div class="wide" role="region" aria-labelledby="fleet-title" tabindex="0"><table><thead><tr>'
        "<th scope=col>agent</th><th scope=col>state</th><th scope=col>owns</th><th scope=col>role</th>"
        "</tr></thead><tbody>%s</tbody></table></div>"
    ) % (
        fleet.name,
        _STANDING[fleet.state],
        fleet.backend,
        f"{fleet.moves:,}",
        trouble,
        _joined(lines),
    )


_STANDING: Final = {
    "member": "This agent is a member",
    "joining": "This agent is joining",
    "lost": "This agent is cut off",
    "left": "This agent has left",
}


def _roles(member: MemberVitals, fleet: FleetVitals) -> tuple[tuple[str, bool], ...]:
    return (("this agent", member.me), ("leader", member.identity == fleet.leader))


def _counted(
    anchor: str, title: str, names: Sequence[str], rows: Sequence[tuple[str, tuple[int, int, int, int], str]]
) -> Markup:
    """A table of parts of the agent: name, four numbers, last trouble. Nothing if there are none."""
    if not rows:
        return Markup("")
    lines = [
        Markup(
            '<tr class="%s"><th scope=row>%s</th><td class=n>%s</td><td class=n>%s</td><td class=n>%s</td>'
            "<td class=n>%s</td><td class=message>%s</td></tr>"
        )
        % ("failing" if trouble else "ok", name, *(f"{number:,}" for number in numbers), trouble)
        for name, numbers, trouble in rows
    ]
    head = Markup("").join(Markup("<th scope=col>%s</th>") % text for text in names)
    return Markup(
        '<h2 id="%s">%s</h2><div class="wide" role="region" aria-labelledby="%s" tabindex="0">'
        "<table><thead><tr>%s</tr></thead><tbody>%s</tbody></table></div>"
    ) % (anchor, title, anchor, head, _joined(lines))


def _problems(problems: Sequence[Problem]) -> Markup:
    if not problems:
        return Markup("")
    items = []
    for problem in problems:
        place = f"{problem.file}:{problem.line}" if problem.line else problem.file
        path = Markup(" <code>%s</code>") % problem.path if problem.path else ""
        hint = Markup('<p class="hint">%s</p>') % problem.hint if problem.hint else ""
        items.append(
            Markup('<li class="%s"><p><code>%s</code>%s %s</p>%s</li>')
            % ("warned" if problem.severity == "warning" else "refused", place, path, problem.message, hint)
        )
    return Markup("<h2>Configuration</h2><ul class=problems>%s</ul>") % _joined(items)


# The page of one instance


def instance(board: Board, row: Row, history: History, assets: str) -> str:
    """The page of one instance: where it stands, how long it takes, what it measures."""
    vitals, now = row.vitals, board.snapshot.time
    content = _joined(
        [
            Markup("<h1>%s %s</h1>") % (vitals.instance, _state(row.state, row.cells[0])),
            Markup('<div class="trouble one">%s</div>') % _error(vitals, now) if vitals.message else Markup(""),
            _facts(vitals, now),
            _durations(history.durations(vitals.instance)),
            _values(history.lines(vitals.instance)),
            Markup('<p><a href="/">All instances</a></p>'),
        ]
    )
    at = list(board.rows).index(vitals.instance)
    return _page(f"{vitals.instance} {row.cells[0]} – vedette", assets, board, content, at)


def _facts(vitals: Vitals, now: float) -> Markup:
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in (vitals.dropped or {}).items())
    facts = {
        "since": clock_time(vitals.since, now) if vitals.since else "",
        "last run": clock_time(vitals.last_run, now) if vitals.last_run else "not yet",
        "took": format_duration(vitals.duration) if vitals.runs else "",
        "late by": format_duration(vitals.lateness) if vitals.runs else "",
        "next run": clock_time(vitals.next_run, now) if vitals.next_run else "",
        "runs": f"{vitals.runs:,}",
        "failed": f"{vitals.failures:,}",
        "skipped": f"{vitals.skipped:,}",
        "samples": f"{vitals.samples:,}",
        "dropped": dropped,
        "backoff": f"{vitals.backoff} × the interval" if vitals.backoff != 1 else "",
        "isolated": isolation(vitals),
        "run on": f"one agent of the fleet ({vitals.run_on})" if vitals.run_on != "every_node" else "",
        "held the loop": f"{vitals.blocked:,} times" if vitals.blocked else "",
        "muted until": clock_time(vitals.muted_until, now) if is_muted(vitals, now) else "",
        "configured in": f"{vitals.file}:{vitals.line}" if vitals.file else "",
        "made for": vitals.origin,
    }
    items = [Markup("<div><dt>%s</dt><dd>%s</dd></div>") % (name, text) for name, text in facts.items() if text]
    return Markup("<dl>%s</dl>") % Markup("").join(items)


def _durations(values: Sequence[float]) -> Markup:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return Markup("")
    least, most = format_duration(min(known)), format_duration(max(known))
    text = f"between {least} and {most}, last {format_duration(known[-1])}"
    label = f"length of the last {len(values)} runs: {text}"
    return Markup("<h2>How long runs took</h2><figure class=large>%s<figcaption>%s</figcaption></figure>") % (
        spark(values, label),
        text,
    )


def _values(lines: Sequence[Line]) -> Markup:
    figures = [_figure(line) for line in lines]
    if not figures:
        return Markup("")
    return Markup('<h2>What it measures</h2><div class="grid">%s</div>') % _joined(figures)


def _figure(line: Line) -> Markup:
    known = [value for value in line.values if math.isfinite(value)]
    per = " per second" if line.per_second else ""
    last = f"{number(line.values[-1])}{per}" if line.values and math.isfinite(line.values[-1]) else "not measured"
    span = f"{number(min(known))} to {number(max(known))}" if known else "no value yet"
    return Markup(
        '<figure><h3>%s</h3><p class="last">%s</p>%s'
        '<figcaption>%s<br><span class="tags">%s</span></figcaption></figure>'
    ) % (line.name, last, spark(line.values, f"{line.name}: {span}{per}, last {last}"), span, " ".join(line.tags))


def missing(board: Board, wanted: str, assets: str) -> str:
    """The page of an instance that does not exist."""
    content = Markup('<h1>No instance is called “%s”</h1><p><a href="/">All instances</a></p>') % wanted
    return _page("not found – vedette", assets, board, content)


def address(instance: str) -> str:
    """Where an instance's page is."""
    return f"/instance/{quote(instance)}"


def number(value: float) -> str:
    """A number for people: `1,234`, `12.3`, `4.56M`, `0.00123`."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= limit:
            return f"{value / limit:,.3g}{unit}" if abs(value) < 1e15 else f"{value:.3g}"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

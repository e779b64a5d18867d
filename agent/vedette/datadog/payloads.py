"""Monitors and dashboards as Datadog's API takes them.

Source: Datadog API reference, "Monitors: create a monitor", "Dashboards: create a new dashboard"; the limits of tags
from "Getting Started with Tags".
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from vedette.datadog.queries import datadog_query, filled, variable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette.datadog.model import Dashboard, Head, Monitor, Widget

MANAGED: Final = "managed_by:vedette"
ID_KEY: Final = "vedette_id"
_MARK: Final = "Managed by vedette as "
_END: Final = ". What is changed here is put back."
_SHAPES: Final = {"lines": "line", "bars": "bars", "area": "area"}
_UNITS: Final = {"percent": "%", "millisecond": "ms", "second": "s", "byte": "B"}
_MOST_IN_A_LIST: Final = 10


def identity(head: Head, own: str) -> str:
    """The name under which something is ours: `<set>/<id>`."""
    return f"{head.set}/{own}"


def monitor_payload(monitor: Monitor, head: Head) -> dict[str, Any]:
    """The body that creates or updates a monitor."""
    kind, query, options = _question(monitor, head)
    own = (MANAGED, f"{ID_KEY}:{identity(head, monitor.id)}")
    body: dict[str, Any] = {
        "name": monitor.name,
        "type": kind,
        "query": query,
        "message": _message(monitor, head),
        "tags": sorted({*own, *head.tags, *monitor.tags}),
        "options": {**options, **_habits(monitor), **monitor.options},
    }
    if monitor.priority is not None:
        body["priority"] = monitor.priority
    return body


def _question(monitor: Monitor, head: Head) -> tuple[str, str, dict[str, Any]]:
    """Its type, its query and the options that belong to the query."""
    if monitor.query:
        return monitor.type, monitor.query, {}
    if monitor.status:
        return "service check", _status_query(monitor), {"thresholds": _status_thresholds(monitor)}
    series = monitor.series
    distribution = head.histogram_as == "distribution"
    queries = {name: datadog_query(one, as_distribution=distribution) for name, one in series.items()}
    (formula,) = monitor.formulas.values()
    alone = len(series) == 1 and formula in series
    asked = filled(formula, queries, lambda query: query if alone else f"( {query} )")
    counted = any(one.counted for one in series.values())
    way = "sum" if counted and all(one.per == "interval" for one in series.values()) else "avg"
    limit = monitor.above if monitor.above is not None else monitor.below
    sign = ">" if monitor.above is not None else "<"
    query = f"{monitor.during or way}(last_{_window(monitor.over)}):{asked} {sign} {_written(limit or 0.0)}"
    options = {"thresholds": _thresholds(monitor), "require_full_window": False}
    return "query alert", query, options


def _status_query(monitor: Monitor) -> str:
    over = ", ".join(f'"{key}:{value}"' for key, value in monitor.where.items()) or '"*"'
    by = ", ".join(f'"{key}"' for key in monitor.by) or '"*"'
    return f'"{monitor.status}".over({over}).by({by}).last({monitor.times + 1}).count_by_status()'


def _status_thresholds(monitor: Monitor) -> dict[str, float]:
    return {"critical": monitor.times, "warning": monitor.times, "ok": 1}


def _thresholds(monitor: Monitor) -> dict[str, float]:
    critical = monitor.above if monitor.above is not None else monitor.below
    found = {
        "critical": critical,
        "critical_recovery": monitor.recover,
        "warning": monitor.warning,
        "warning_recovery": monitor.recover_warning,
    }
    if monitor.recover is None and monitor.warning is not None and critical is not None:
        found["critical_recovery"] = round((critical + monitor.warning) / 2, 6)
    return {name: _number(value) for name, value in found.items() if value is not None}


def _habits(monitor: Monitor) -> dict[str, Any]:
    """What every monitor says, so that what is changed by hand shows."""
    silence = monitor.silence
    made: dict[str, Any] = {"notify_no_data": silence is not None, "notify_audit": False, "include_tags": True}
    if silence is not None:
        made["no_data_timeframe"] = max(round(silence / 60), round(2 * monitor.over / 60), 2)
    if monitor.remind is not None:
        made["renotify_interval"] = round(monitor.remind / 60)
    if monitor.delay:
        made["evaluation_delay"] = round(monitor.delay)
    return made


def _message(monitor: Monitor, head: Head) -> str:
    """What is said, then who is told when, by the blocks that Datadog's template language has for it."""
    parts = [monitor.message.strip()] if monitor.message.strip() else []
    if monitor.runbook:
        parts.append(f"Runbook: {monitor.runbook}")
    if monitor.notify is not None:
        alert = warn = silence = monitor.notify
    else:
        alert = head.notify.critical if monitor.severity == "critical" else head.notify.warning
        warn, silence = head.notify.warning, alert
        if head.notify.no_data is not None:
            silence = head.notify.no_data
    blocks = [("is_alert", alert), ("is_alert_recovery", alert)]
    if monitor.warning is not None or monitor.status:
        blocks += [("is_warning", warn), ("is_warning_recovery", warn)]
    if monitor.silence is not None:
        blocks += [("is_no_data", silence), ("is_no_data_recovery", silence)]
    told = [f"{{{{#{word}}}}}{' '.join(handles)}{{{{/{word}}}}}" for word, handles in blocks if handles]
    return "\n".join([*parts, *([""] if parts and told else []), *told])


def dashboard_payload(dashboard: Dashboard, head: Head) -> dict[str, Any]:
    """The body that creates or updates a dashboard.

    A dashboard takes no tags but teams, so that what makes it ours stands at the end of its description.
    """
    mark = f"{_MARK}{identity(head, dashboard.id)}{_END}"
    teams = dashboard.teams or head.teams
    body: dict[str, Any] = {
        "title": dashboard.title,
        "description": f"{dashboard.description.strip()}\n\n{mark}".strip(),
        "layout_type": dashboard.layout,
        "widgets": list(dashboard.widgets) or [_group(group, dashboard, head) for group in dashboard.groups],
        "template_variables": [
            {"name": variable(tag), "prefix": tag, "available_values": [], "defaults": ["*"]}
            for tag in dashboard.variables
        ],
        "notify_list": [],
        "tags": [f"team:{team.removeprefix('team:')}" for team in teams],
    }
    if dashboard.groups:
        body["reflow_type"] = "auto"
    return body


def mark_of(description: Any) -> str:
    """The `<set>/<id>` in a dashboard's description, or nothing: it is not ours."""
    last = str(description or "").rstrip().rpartition("\n")[2]
    if not last.startswith(_MARK) or not last.endswith(_END):
        return ""
    return last.removeprefix(_MARK).removesuffix(_END)


def _group(group: Any, dashboard: Dashboard, head: Head) -> dict[str, Any]:
    widgets = [{"definition": _widget(widget, dashboard, head)} for widget in group.widgets]
    return {"definition": {"type": "group", "title": group.title, "layout_type": "ordered", "widgets": widgets}}


def _widget(widget: Widget, dashboard: Dashboard, head: Head) -> dict[str, Any]:
    scope = [f"${variable(tag)}" for tag in dashboard.variables]
    if widget.show == "note":
        return {"type": "note", "content": widget.text}
    if widget.show == "status":
        made: dict[str, Any] = {"type": "check_status", "title": widget.title, "check": widget.status}
        filters = [*scope, *(f"{key}:{value}" for key, value in widget.where.items())]
        return {**made, "grouping": "cluster", "group_by": list(widget.by), "tags": filters or ["*"]}
    distribution = head.histogram_as == "distribution"
    queries: list[dict[str, str]] = [
        {"data_source": "metrics", "name": name, "query": datadog_query(one, scope, as_distribution=distribution)}
        for name, one in widget.series.items()
    ]
    if widget.show in _SHAPES:
        request: dict[str, Any] = {
            "response_format": "timeseries",
            "queries": queries,
            "formulas": _formulas(widget),
            "display_type": _SHAPES[widget.show],
        }
        lines: dict[str, Any] = {"type": "timeseries", "title": widget.title, "requests": [request]}
        marks = [{"value": f"y = {_written(mark)}", "display_type": "warning dashed"} for mark in widget.marks]
        return {**lines, "markers": marks} if marks else lines
    for query, one in zip(queries, widget.series.values(), strict=True):
        query["aggregator"] = "sum" if one.counted and one.per == "interval" else "avg"
    request = {"response_format": "scalar", "queries": queries, "formulas": _formulas(widget)}
    if widget.show == "top":
        for formula in request["formulas"]:
            formula["limit"] = {"count": _MOST_IN_A_LIST, "order": "desc"}
        return {"type": "toplist", "title": widget.title, "requests": [request]}
    for query, one in zip(queries, widget.series.values(), strict=True):
        query["aggregator"] = query["aggregator"] if one.counted else "last"
    value: dict[str, Any] = {"type": "query_value", "title": widget.title, "requests": [request]}
    value |= {"autoscale": True, "precision": 2}
    unit = _UNITS.get(widget.unit, "")
    return {**value, "custom_unit": unit} if unit and widget.formula else value


def _formulas(widget: Widget) -> list[dict[str, Any]]:
    return [
        {"formula": formula, "alias": alias.replace("_", " ")} if alias else {"formula": formula}
        for alias, formula in widget.formulas.items()
    ]


def _window(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes % 60:
        return f"{minutes}m"
    return f"{minutes // 60}h" if minutes < 1440 or minutes % 1440 else f"{minutes // 1440}d"


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _written(value: float) -> str:
    """A number as queries take it: without an exponent."""
    return f"{Decimal(str(_number(value))):f}"


def id_of(tags: Iterable[str]) -> str:
    """The `<set>/<id>` in a monitor's tags, or nothing: it is not ours."""
    own = list(tags)
    if MANAGED not in own:
        return ""
    return next((tag.partition(":")[2] for tag in own if tag.startswith(f"{ID_KEY}:")), "")

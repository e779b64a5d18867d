"""Dashboards as Grafana takes them, over Prometheus.

Source: Grafana, "Dashboard JSON model" (classic), schema version 39; panel options as its own panels write them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from vedette.datadog.queries import filled, label, prom_name, promql, variable
from vedette.metrics import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette.datadog.model import Dashboard, Group, Widget

SCHEMA_VERSION: Final = 39
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS: Final = 24
_SIZES: Final = {"value": (4, 4), "status": (4, 4), "note": (8, 4), "top": (8, 8)}
_LINES: Final = (8, 8)
_UNITS: Final = {
    "percent": "percent",
    "fraction": "percentunit",
    "nanosecond": "ns",
    "microsecond": "µs",
    "millisecond": "ms",
    "second": "s",
    "day": "d",
    "byte": "bytes",
    "kibibyte": "kbytes",
    "mebibyte": "mbytes",
    "dollar": "currencyUSD",
}
_STATES: Final = (("OK", "green"), ("WARNING", "yellow"), ("CRITICAL", "red"), ("UNKNOWN", "purple"))
_LONGEST_UID: Final = 40


def grafana_dashboard(dashboard: Dashboard, *, honor_labels: bool = False) -> dict[str, Any]:
    """The JSON of a dashboard made of groups; what Datadog's own words define has no counterpart."""
    variables = [_source_variable(), *_variables(dashboard, honor_labels=honor_labels)]
    return {
        "uid": _uid(dashboard.id),
        "title": dashboard.title,
        "description": dashboard.description.strip(),
        "tags": ["vedette"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": variables},
        "panels": list(_panels(dashboard, honor_labels=honor_labels)),
    }


def _uid(own: str) -> str:
    uid = f"vedette-{own.replace('.', '-')}"
    if len(uid) <= _LONGEST_UID:
        return uid
    digest = hashlib.sha256(own.encode()).hexdigest()[:8]
    return f"{uid[: _LONGEST_UID - 9]}-{digest}"


def _source_variable() -> dict[str, Any]:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "refresh": 1,
        "regex": "",
        "includeAll": False,
        "multi": False,
        "options": [],
        "skipUrlSync": False,
    }


def _variables(dashboard: Dashboard, *, honor_labels: bool) -> Iterator[dict[str, Any]]:
    series = [one for group in dashboard.groups for widget in group.widgets for one in widget.series.values()]
    names = [_lines_of(prom_name(one.metric, one.kind), one.kind) for one in series]
    names += [
        prom_name(widget.status, Kind.GAUGE) for group in dashboard.groups for widget in group.widgets if widget.status
    ]
    known = "|".join(sorted(set(names)))
    for tag in dashboard.variables:
        query = f'label_values({{__name__=~"{known}"}}, {label(tag, honor_labels=honor_labels)})'
        yield {
            "type": "query",
            "name": variable(tag),
            "label": tag,
            "datasource": _SOURCE,
            "definition": query,
            "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "refresh": 2,
            "sort": 1,
            "regex": "",
            "includeAll": True,
            "allValue": ".*",  # also what lacks the label
            "multi": True,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "hide": 0,
            "options": [],
            "skipUrlSync": False,
        }


def _lines_of(name: str, kind: Kind) -> str:
    return f"{name}_count" if kind in (Kind.HISTOGRAM, Kind.DISTRIBUTION) else name


def _panels(dashboard: Dashboard, *, honor_labels: bool) -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for group in dashboard.groups:
        place = {"h": 1, "w": _COLUMNS, "x": 0, "y": top}
        yield {"type": "row", "id": number, "title": group.title, "collapsed": False, "gridPos": place, "panels": []}
        number, top = number + 1, top + 1
        for widget, place in _places(group, top):
            yield {"id": number, "gridPos": place, **_panel(widget, dashboard, honor_labels=honor_labels)}
            number, bottom = number + 1, place["y"] + place["h"]
            top = max(top, bottom)


def _places(group: Group, top: int) -> Iterator[tuple[Widget, dict[str, int]]]:
    x = y = height = 0
    for widget in group.widgets:
        wide, high = _SIZES.get(widget.show, _LINES)
        if x + wide > _COLUMNS:
            x, y, height = 0, y + height, 0
        yield widget, {"h": high, "w": wide, "x": x, "y": top + y}
        x, height = x + wide, max(height, high)


def _panel(widget: Widget, dashboard: Dashboard, *, honor_labels: bool) -> dict[str, Any]:
    if widget.show == "note":
        return {"type": "text", "title": widget.title, "options": {"mode": "markdown", "content": widget.text}}
    if widget.show == "status":
        return _status(widget, dashboard, honor_labels=honor_labels)
    defaults = {"unit": _unit(widget), "custom": {}, "thresholds": _steps(widget), "mappings": []}
    made: dict[str, Any] = {
        "title": widget.title,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": _targets(widget, dashboard, honor_labels=honor_labels),
    }
    if widget.show == "value":
        return {"type": "stat", **made, "options": {"reduceOptions": _LAST, "colorMode": "none", "graphMode": "area"}}
    if widget.show == "top":
        options: dict[str, Any] = {"reduceOptions": _LAST, "orientation": "horizontal", "displayMode": "basic"}
        return {"type": "bargauge", **made, "options": options}
    defaults["custom"] = {
        "drawStyle": "bars" if widget.show == "bars" else "line",
        "fillOpacity": {"lines": 0, "bars": 80, "area": 30}[widget.show],
        "thresholdsStyle": {"mode": "line" if widget.marks else "off"},
    }
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    return {"type": "timeseries", **made, "options": {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}}


_LAST: Final = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def _targets(widget: Widget, dashboard: Dashboard, *, honor_labels: bool) -> list[dict[str, Any]]:
    over_time = widget.show not in ("value", "top")
    window = "$__rate_interval" if over_time else "$__range"
    queries = {
        name: promql(one, dashboard.variables, window=window, honor_labels=honor_labels)
        for name, one in widget.series.items()
    }
    labels = [label(tag, honor_labels=honor_labels) for one in widget.series.values() for tag in one.by]
    groups = " ".join(f"{{{{{one}}}}}" for one in dict.fromkeys(labels))
    made = []
    for place, (alias, formula) in enumerate(widget.formulas.items()):
        alone = formula in queries
        query = queries[formula] if alone else filled(formula, queries)
        if widget.show == "top":
            query = f"topk(10, {query})"
        legend = " ".join(filter(None, (alias.replace("_", " "), groups))) or widget.title
        target: dict[str, Any] = {
            "refId": chr(ord("A") + place),
            "datasource": _SOURCE,
            "expr": query,
            "legendFormat": legend,
        }
        made.append({**target, "editorMode": "code", "instant": not over_time, "range": over_time})
    return made


def _status(widget: Widget, dashboard: Dashboard, *, honor_labels: bool) -> dict[str, Any]:
    chosen = [f'{label(tag, honor_labels=honor_labels)}=~"${variable(tag)}"' for tag in dashboard.variables]
    selector = f"{{{','.join(chosen)}}}" if chosen else ""
    by = ", ".join(label(tag, honor_labels=honor_labels) for tag in widget.by)
    query = f"max{f' by ({by})' if by else ''} ({prom_name(widget.status, Kind.GAUGE)}{selector})"
    texts = {str(number): {"text": word, "color": color, "index": number} for number, (word, color) in _NUMBERED}
    steps = [{"color": color, "value": number or None} for number, (_, color) in _NUMBERED]
    defaults = {
        "unit": "none",
        "custom": {},
        "mappings": [{"type": "value", "options": texts}],
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    legend = " ".join(f"{{{{{label(tag, honor_labels=honor_labels)}}}}}" for tag in widget.by) or widget.title
    target: dict[str, Any] = {
        "refId": "A",
        "datasource": _SOURCE,
        "expr": query,
        "legendFormat": legend,
        "editorMode": "code",
    }
    return {
        "type": "stat",
        "title": widget.title,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [{**target, "instant": True, "range": False}],
        "options": {"reduceOptions": _LAST, "colorMode": "background", "graphMode": "none"},
    }


_NUMBERED: Final = tuple(enumerate(_STATES))


def _unit(widget: Widget) -> str:
    if widget.unit:
        return _UNITS.get(widget.unit, "short")
    per_second = any(one.kind is Kind.RATE or (one.counted and one.per == "second") for one in widget.series.values())
    return "ops" if per_second and not widget.formula else "short"


def _steps(widget: Widget) -> dict[str, Any]:
    marked = [{"color": "red", "value": mark} for mark in sorted(widget.marks)]
    return {"mode": "absolute", "steps": [{"color": "green", "value": None}, *marked]}

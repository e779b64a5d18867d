"""What differs between a definition and what stands at Datadog, in a form that neither's habits change."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_MONITOR_KEYS: Final = ("name", "type", "query", "message", "tags", "options", "priority")
_DASHBOARD_KEYS: Final = (
    "title",
    "description",
    "layout_type",
    "reflow_type",
    "widgets",
    "template_variables",
    "template_variable_presets",
    "notify_list",
    "tags",
)
"""What people can define; the rest is Datadog's own: ids, authors, times, states."""
_OPTION_DEFAULTS: Final[dict[str, Any]] = {
    "notify_audit": False,
    "include_tags": True,
    "notify_no_data": False,
    "require_full_window": False,
    "new_host_delay": 300,
    "new_group_delay": 0,
    "evaluation_delay": 0,
    "renotify_interval": 0,
    "renotify_occurrences": 0,
    "timeout_h": 0,
    "locked": False,
    "no_data_timeframe": 0,
    "notification_preset_name": "show_all",
    "on_missing_data": "default",
    "avalanche_window": 10,
    "aggregation": {},
    "escalation_message": "",
}
_NULLABLE: Final = (
    "evaluation_delay",
    "min_failure_duration",
    "min_location_failed",
    "new_group_delay",
    "no_data_timeframe",
    "renotify_interval",
    "renotify_occurrences",
    "renotify_statuses",
    "timeout_h",
)
"""Options that the API takes null for, as nothing."""
_NOT_OURS: Final = ("silenced",)
"""A downtime is nobody's definition."""
_WIDGET_DEFAULTS: Final[dict[str, Any]] = {
    "title_size": "16",
    "title_align": "left",
    "show_legend": True,
    "legend_layout": "auto",
    "legend_columns": ["avg", "min", "max", "value", "sum"],
    "legend_size": "0",
    "time": {},
    "show_title": True,
    "background_color": "white",
    "font_size": "14",
    "text_align": "left",
    "vertical_align": "top",
    "show_tick": False,
    "tick_pos": "50%",
    "tick_edge": "left",
    "has_padding": True,
    "on_right_yaxis": False,
}
_LONG: Final = 100


def monitor_form(body: dict[str, Any]) -> dict[str, Any]:
    """A monitor without what Datadog adds: both sides of a comparison take this form."""
    form = {key: body.get(key) for key in _MONITOR_KEYS}
    if form["type"] == "metric alert":  # Datadog answers either word for the same monitor
        form["type"] = "query alert"
    form["query"] = " ".join(str(form["query"] or "").split())
    form["message"] = str(form["message"] or "").rstrip()
    form["tags"] = sorted(form["tags"] or [])
    options = {key: value for key, value in (form["options"] or {}).items() if key not in _NOT_OURS}
    form["options"] = {
        key: value for key, value in options.items() if key not in _OPTION_DEFAULTS or value != _OPTION_DEFAULTS[key]
    }
    return dict(_bare(form))


def dashboard_form(body: dict[str, Any]) -> dict[str, Any]:
    """A dashboard without what Datadog adds."""
    form = {key: body.get(key) for key in _DASHBOARD_KEYS}
    form["description"] = str(form["description"] or "").rstrip()
    form["widgets"] = [_widget(widget) for widget in form["widgets"] or []]
    form["tags"] = sorted(form["tags"] or [])
    form["template_variables"] = [
        {key: value for key, value in one.items() if key != "default"} for one in form["template_variables"] or []
    ]
    return dict(_bare(form))


def _widget(widget: Any) -> Any:
    if not isinstance(widget, dict):
        return widget
    made = {key: value for key, value in widget.items() if key != "id"}
    definition = made.get("definition")
    if isinstance(definition, dict):
        usual = {k: v for k, v in definition.items() if k not in _WIDGET_DEFAULTS or v != _WIDGET_DEFAULTS[k]}
        if isinstance(usual.get("widgets"), list):
            usual["widgets"] = [_widget(inner) for inner in usual["widgets"]]
        made["definition"] = usual
    return made


def _bare(value: Any) -> Any:
    """Without what says nothing: null, empty text, empty lists and mappings; whole numbers as such."""
    if isinstance(value, dict):
        made = {key: _bare(item) for key, item in value.items()}
        return {key: item for key, item in made.items() if item not in (None, "", [], {})}
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if isinstance(value, float) and value == int(value):
        return int(value)
    return value


def put_back(wanted: dict[str, Any], there: dict[str, Any]) -> dict[str, Any]:
    """A monitor with the options and the priority that were added by hand set to what they are without."""
    added = set(there.get("options") or {}) - set(wanted["options"]) - set(_NOT_OURS)
    usual = {key: None if key in _NULLABLE else _OPTION_DEFAULTS.get(key) for key in sorted(added)}
    known = {key: value for key, value in usual.items() if value is not None or key in _NULLABLE}
    options = {**wanted["options"], **known}
    without = {"priority": None} if there.get("priority") is not None else {}
    return {**without, **wanted, "options": options}


def differences(there: Any, wanted: Any) -> list[str]:
    """The changes from one form to another, a line each: `options.thresholds.critical: 0.95 -> 0.9`."""
    return list(_differences(there, wanted, ""))


def _differences(there: Any, wanted: Any, path: str) -> Iterator[str]:
    if there == wanted:
        return
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in there if key not in wanted)]:
            yield from _differences(there.get(key), wanted.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(there, list) and isinstance(wanted, list) and any(isinstance(one, dict) for one in there + wanted):
        for place in range(max(len(there), len(wanted))):
            here = there[place] if place < len(there) else None
            want = wanted[place] if place < len(wanted) else None
            yield from _differences(here, want, f"{path}[{place}]")
    elif isinstance(there, str) and isinstance(wanted, str) and ("\n" in there or "\n" in wanted):
        yield f"{path}:"
        for line in difflib.ndiff(there.splitlines(), wanted.splitlines()):
            if line[0] in "+-":
                yield f"  {line[0]} {shown(line[2:])}"
    else:
        yield f"{path}: {shown(there)} -> {shown(wanted)}"


def shown(value: Any) -> str:
    """A value on one line that no terminal takes for a command."""
    if value is None:
        return "(nothing)"
    if isinstance(value, dict) and isinstance(value.get("definition"), dict):
        definition = value["definition"]
        return f"widget {json.dumps(definition.get('title') or definition.get('type'))}"
    text = json.dumps(value, ensure_ascii=not str(value).isprintable(), sort_keys=True)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"

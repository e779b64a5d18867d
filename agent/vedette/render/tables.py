"""Floor 2: the Markdown tables of a plugin's README."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vedette.check import Check, Listener
from vedette.render.example import example_config
from vedette.render.options import Option, family, plugin_options, walk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette.metrics import Metric
    from vedette.render.options import Plugin


def options_table(plugin: Plugin) -> str:
    """The plugin's own options as a Markdown table, nested ones as dotted paths; the common ones in a sentence."""
    options = plugin_options(plugin)
    own = [inner for option in options if not option.common for inner in (option, *walk(option))]
    rows = [(f"`{option.path}`", option.type, _default(option), option.meaning) for option in own]
    common = ", ".join(f"`{option.name}`" for option in options if option.common)
    if not rows:
        return f"No options of its own. As every {family(plugin)}: {common}.\n"
    return f"{_table(('Option', 'Type', 'Default', 'Meaning'), rows)}\nBesides, as every {family(plugin)}: {common}.\n"


def metrics_table(plugin: Plugin) -> str:
    """What the check emits, as Markdown: fixed metrics, those of the example file, and the service checks."""
    if not issubclass(plugin, Check | Listener):
        return "None.\n"
    fixed = list(plugin.metrics)
    names = {metric.name for metric in fixed}
    parts = [_metrics(fixed)] if fixed else []
    extra = [metric for metric in _declared(plugin) if metric.name not in names]
    if extra:
        parts.append(
            f"Further names follow the configuration. With the options of the example file:\n\n{_metrics(extra)}"
        )
    if plugin.open_names:
        parts.append("Names that come from the source are passed on as they are.\n")
    statuses = ", ".join(f"`{status}`" for status in plugin.statuses)
    if statuses:
        parts.append(f"Service checks: {statuses}.\n")
    return "\n".join(parts) or "None.\n"


def _declared(plugin: type[Check[Any]] | type[Listener[Any]]) -> Iterable[Metric]:
    try:
        return plugin.declare(example_config(plugin))
    except ValueError:  # the model gives no complete example
        return ()


def _metrics(metrics: Iterable[Metric]) -> str:
    rows = [
        (
            f"`{metric.name}`",
            metric.kind.value,
            f"{metric.unit} per {metric.per}" if metric.per else metric.unit,
            ", ".join(f"`{tag}`" for tag in metric.tags),
            metric.help,
        )
        for metric in metrics
    ]
    return _table(("Metric", "Kind", "Unit", "Tags", "Meaning"), rows)


def _default(option: Option) -> str:
    if option.required:
        return "required"
    if not option.default or (" " in option.default and option.default[0] not in '[{"'):
        return option.default or "none"
    return f"`{option.default}`"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

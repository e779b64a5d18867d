"""Floor 3: what sinks are told when an instance fails and when it is well again: an event, a structured log line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vedette.units import format_duration
from vedette.vitals import State

if TYPE_CHECKING:
    from collections.abc import Collection

    from vedette.emit import Emit
    from vedette.metrics import Batch
    from vedette.vitals import Vitals

_ALERTS = {State.OK: ("success", "info"), State.WARNING: ("warning", "warning")}


def transition(emit: Emit, vitals: Vitals, before: State, lasted: float, ways: Collection[str]) -> Batch:
    """The event and the log line that say in which state an instance is now.

    Args:
        emit: what they are said with.
        vitals: the instance's, in its new state.
        before: the state that it was in.
        lasted: for how many seconds.
        ways: `events`, `logs` or both.
    """
    alert_type, level = _ALERTS.get(vitals.state, ("error", "error"))
    tags = (f"check:{vitals.check}",)
    well = vitals.state is State.OK
    title = f"{vitals.instance} recovered" if well else f"{vitals.instance} is {vitals.state.value}"
    text = f"after {format_duration(lasted)} of being {before.value}" if well else vitals.message
    if vitals.hint:
        text = f"{text} ({vitals.hint})"
    if "events" in ways:
        emit.event(title, text, alert_type=alert_type, aggregation_key=vitals.instance, tags=tags)
    if "logs" in ways:
        more: dict[str, Any] = {"state": vitals.state.value, "previous": before.value, "check": vitals.check}
        if before is not State.STARTING:
            more["lasted_seconds"] = round(lasted, 3)
        if not well:
            more |= {"error": vitals.message, "hint": vitals.hint}
        emit.log(f"{title}: {text}", level=level, tags=tags, instance=vitals.instance, **more)
    return emit.batch()

"""Floor 1: an alert in words and figures, as people read it in every channel."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from vedette.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vedette.notifier import Alert

_BARS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 40


def headline(alert: Alert) -> str:
    """`CRITICAL: payments flow down`; a recovery and a reminder say so instead of the severity.

    Always one line.
    """
    word = {"firing": alert.severity.upper(), "acknowledged": "ACKNOWLEDGED", "resolved": "RESOLVED"}[alert.state]
    return " ".join(f"{word}{' (reminder)' if alert.reminder else ''}: {alert.rule}".split())


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """Unicode bars from the lowest to the highest value, the newest last; several values share a bar if need be.

    Args:
        values: oldest first; those that are not finite are a gap.
        width: most bars; each shows the mean of its share.
    """
    shares = _shares(values, width)
    known = [value for value in shares if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    bars = [" " if value is None else _BARS[_level(value, low, span)] for value in shares]
    return "".join(bars)


def _level(value: float, low: float, span: float) -> int:
    return min(len(_BARS) - 1, int((value - low) / span * len(_BARS))) if span > 0 else len(_BARS) // 2 - 1


def _shares(values: Sequence[float], width: int) -> list[float | None]:
    number = min(width, len(values))
    made: list[float | None] = []
    for place in range(number):
        share = values[len(values) * place // number : len(values) * (place + 1) // number]
        finite = [value for value in share if math.isfinite(value)]
        made.append(math.fsum(finite) / len(finite) if finite else None)
    return made


def figure(value: float, unit: str = "") -> str:
    """A value with its unit, as short as it is exact enough: `96.4 %`, `1,240 ms`."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{text} {unit}".strip()


def moment(seconds: float) -> str:
    """`2026-11-26 23:12:05 UTC`; empty where there is no such time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return ""


def plot_line(alert: Alert) -> str:
    """The values as bars with the least, the greatest and the last of them; empty where there are none."""
    evidence = alert.evidence
    values = [value for _, value in evidence.values if math.isfinite(value)]
    if not values:
        return ""
    parts = [f"last {figure(values[-1], evidence.unit)}", f"{figure(min(values))} to {figure(max(values))}"]
    if evidence.threshold is not None:
        parts.append(f"threshold {figure(evidence.threshold, evidence.unit)}")
    return f"{sparkline([value for _, value in evidence.values])} {', '.join(parts)}"


def facts(alert: Alert) -> list[tuple[str, str]]:
    """What an alert tells beside its headline and summary: word and text, only what there is."""
    evidence = alert.evidence
    lasted = max(0.0, (alert.at or alert.since) - alert.since)
    since = moment(alert.since)
    if alert.state == "resolved" and since:
        since = f"{since}, for {format_duration(round(lasted))}, until {moment(alert.at or alert.since)}"
    elif (alert.reminder or alert.state == "acknowledged") and since:
        since = f"{since}, for {format_duration(round(lasted))} now"
    rows = [
        ("Severity", alert.severity if alert.state != "firing" or alert.reminder else ""),
        ("Was firing since" if alert.state == "resolved" else "Since", since),
        ("Instance", alert.instance),
        ("Labels", ", ".join(f"{key}:{value}" for key, value in sorted(alert.labels.items()))),
        ("Condition", evidence.condition),
        ("Values", plot_line(alert)),
        ("Failing step", evidence.step),
        ("Error", evidence.error),
    ]
    return [(word, text) for word, text in rows if text]


def links(alert: Alert) -> list[tuple[str, str]]:
    """Title and URL of the runbook and of the dashboards; only what browsers open."""
    found = [("Runbook", alert.runbook), *alert.evidence.links]
    return [(title or url, url) for title, url in found if url.startswith(("https://", "http://"))]


def alert_text(alert: Alert) -> str:
    """All of an alert as plain text, a fact a line."""
    lines = [headline(alert), alert.summary, ""]
    lines += [f"{word}: {text}" for word, text in facts(alert)]
    lines += [f"{title}: {url}" for title, url in links(alert)]
    return "\n".join(lines).strip() + "\n"


def title_of(alerts: Sequence[Alert]) -> str:
    """One line for several alerts: `3 firing, 1 resolved: payments flow down and 3 more`."""
    if len(alerts) == 1:
        return headline(alerts[0])
    counts = [(sum(one.state == state for one in alerts), state) for state in ("firing", "acknowledged", "resolved")]
    said = ", ".join(f"{number} {state}" for number, state in counts if number)
    return f"{said}: {' '.join(alerts[0].rule.split())} and {len(alerts) - 1} more"


def clip(text: str, most: int) -> str:
    """The text with at most so many characters, the last of them an ellipsis if something was cut."""
    return text if len(text) <= most else f"{text[: max(0, most - 1)]}…"

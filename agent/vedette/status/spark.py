"""Sparklines: small inline SVG without a style attribute, as the page's content security policy wants it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH: Final = 240
HEIGHT: Final = 40
_MARGIN = 3


def spark(values: Sequence[float], label: str) -> Markup:
    """A line through the values, with a gap where one is not a number, and a dot at the newest.

    Args:
        values: oldest first.
        label: what a screen reader says.
    """
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    step = (WIDTH - 2 * _MARGIN) / max(1, len(values) - 1)
    points = [
        (_MARGIN + number * step, _y(value, low, high)) if math.isfinite(value) else None
        for number, value in enumerate(values)
    ]
    dot = next((point for point in reversed(points) if point), None)
    circle = Markup('<circle cx="%.1f" cy="%.1f" r="2.5"/>') % dot if dot else ""
    return Markup('<svg class="spark" viewBox="0 0 %d %d" role="img" aria-label="%s"><path d="%s"/>%s</svg>') % (
        WIDTH,
        HEIGHT,
        label,
        _path(points),
        circle,
    )


def _y(value: float, low: float, high: float) -> float:
    span = high - low
    share = (value - low) / span if span > 0 else 0.5
    return HEIGHT - _MARGIN - share * (HEIGHT - 2 * _MARGIN)


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    parts: list[str] = []
    pen = False
    for point in points:
        if point is not None:
            parts.append(f"{'L' if pen else 'M'}{point[0]:.1f} {point[1]:.1f}")
        pen = point is not None
    return "".join(parts)

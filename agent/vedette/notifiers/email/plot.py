"""The last values as a PNG of their own, which every mail program shows; drawn without a library.

Source: W3C, "Portable Network Graphics (PNG) Specification": signature, IHDR, IDAT, IEND; colour type 2.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH: Final = 560
HEIGHT: Final = 120
_MARGIN: Final = 6
_INK, _FILL, _PAPER, _LIMIT = (0x1F, 0x6F, 0xEB), (0xDD, 0xEB, 0xFF), (0xFF, 0xFF, 0xFF), (0xD1, 0x24, 0x2F)


def plot(points: Sequence[tuple[float, float]], threshold: float | None = None) -> bytes:
    """A line through the points over their time, with a dashed line at the threshold.

    Args:
        points: Unix seconds and value, oldest first; those that are not finite are left out.
        threshold: in the values' unit.

    Returns:
        The PNG; empty where there are fewer than two points.
    """
    known = [(time, value) for time, value in points if math.isfinite(time) and math.isfinite(value)]
    if len(known) < 2:
        return b""
    limits = [threshold] if threshold is not None and math.isfinite(threshold) else []
    levels = [value for _, value in known] + limits
    low, high = min(levels), max(levels)
    heights = [_y(value, low, high) for value in _columns(known)]
    limit = round(_y(limits[0], low, high)) if limits else -1
    columns = [_column(place, heights, limit) for place in range(WIDTH)]
    rows = (b"\0" + b"".join(bytes(columns[x][y]) for x in range(WIDTH)) for y in range(HEIGHT))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(rows), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _columns(known: Sequence[tuple[float, float]]) -> list[float]:
    """The value at each column, between the points around it."""
    start, span = known[0][0], known[-1][0] - known[0][0]
    made, place = [], 0
    for x in range(WIDTH):
        share = x / (WIDTH - 1)
        if span <= 0:
            place = min(len(known) - 2, int(share * (len(known) - 1)))
            part = share * (len(known) - 1) - place
        else:
            time = start + share * span
            while place < len(known) - 2 and known[place + 1][0] < time:
                place += 1
            (left, _), (right, _) = known[place], known[place + 1]
            part = (time - left) / (right - left) if right > left else 1.0
        before, after = known[place][1], known[place + 1][1]
        made.append(before + (after - before) * min(1.0, max(0.0, part)))
    return made


def _y(value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low) if high > low else 0.5
    return HEIGHT - 1 - _MARGIN - share * (HEIGHT - 1 - 2 * _MARGIN)


def _column(place: int, heights: Sequence[float], limit: int) -> list[tuple[int, int, int]]:
    """The pixels of a column, from the top: paper, a line of two pixels, a light area, the threshold over both."""
    here = heights[place]
    beside = heights[place - 1] if place else here
    top, bottom = round(min(here, beside)) - 1, round(max(here, beside)) + 1
    pixels = [_PAPER if y < top else _INK if y <= bottom - 1 else _FILL for y in range(HEIGHT)]
    if place % 10 < 6 and 0 <= limit < HEIGHT:
        pixels[limit] = _LIMIT
    return pixels


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

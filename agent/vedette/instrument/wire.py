"""Numbers, tags and members as DogStatsD has them on the wire.

Protocol: Datadog, "DogStatsD: datagram and shell usage": `name:value|kind|#tag,tag`, one metric a line.
"""

from __future__ import annotations

import re
from decimal import Decimal
from hashlib import blake2b
from math import isfinite
from typing import TypeAlias

Number: TypeAlias = "Decimal | int | float"

_BREAKS_TAG = re.compile(r"[\x00-\x20\x7f-\xa0,|#\ud800-\udfff]")
_BREAKS_MEMBER = re.compile(r"[\x00-\x20\x7f-\xa0|%\ud800-\udfff]")
_LONGEST_TAG = 200  # Datadog cuts there
_LONGEST_MEMBER = 128
_MOST_DIGITS = 60
_LARGEST_EXPONENT = 40


def number(value: Number) -> str | None:
    """A finite number in plain digits, exactly as it is; None if it is none.

    A Decimal keeps its digits: 12.30 stays 12.30. An exponent is written out, within reason.
    """
    kind = value.__class__
    if kind is int:
        return str(value) if -(1 << 200) < value < 1 << 200 else None
    if kind is float:
        return repr(value) if isfinite(value) else None
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        text = str(value)
        if "E" in text:
            return f"{value:f}" if abs(value.adjusted()) < _LARGEST_EXPONENT else None
        return text if len(text) < _MOST_DIGITS else repr(float(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None  # a text too: who sends one has a bug that a conversion would hide
    return number(float(value)) if isinstance(value, float) else number(int(value))


def clean(text: str) -> str:
    """A tag without what would end it or the line, and not longer than Datadog keeps."""
    return _BREAKS_TAG.sub("_", text)[:_LONGEST_TAG]


def member(text: str) -> str:
    """A member of a set: what would break the line is percent-encoded, so that two of them stay two."""
    if len(text) > _LONGEST_MEMBER:
        return hashed(text, "")
    return _BREAKS_MEMBER.sub(lambda found: f"%{ord(found[0]):02X}", text)


def hashed(text: str, key: str) -> str:
    """32 hexadecimal digits that stand for a text; with a key nobody without it can try which.

    Source: RFC 7693, BLAKE2b with a 16-byte digest and an optional key.
    """
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=key.encode()[:64]).hexdigest()

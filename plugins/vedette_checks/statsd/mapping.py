"""Rules that turn parts of a name into tags, as in statsd_exporter and Datadog's `dogstatsd_mapper_profiles`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette_checks.statsd.config import MappingConfig

_MATCH = re.compile(r"(?:[a-zA-Z0-9_\-/ ]+|\*)(?:\.(?:[a-zA-Z0-9_\-/ ]+|\*))*(?:\.\*\*)?", re.ASCII)
_REFERENCE = re.compile(r"\$(?:(\d+)|\{(\d+)\})")

Mapped = tuple[str, tuple[str, ...]]
"""A name, and tags to add."""


class Mapper:
    """The rules of one instance.

    Args:
        rules: in the order in which they are tried.
    """

    def __init__(self, rules: Iterable[MappingConfig]) -> None:
        self._rules = [(_compiled(rule.match), rule) for rule in rules]

    def __call__(self, name: str) -> Mapped | None:
        """The name and more tags of a metric of this name; None if it is dropped."""
        for pattern, rule in self._rules:
            match = pattern.fullmatch(name)
            if match is None:
                continue
            if rule.drop:
                return None
            tags = tuple(f"{key}:{_filled(value, match)}" for key, value in rule.tags.items())
            return _filled(rule.name, match) if rule.name else name, tags
        return name, ()


def check_match(match: str) -> None:
    """Raise ValueError, unless it is a pattern: parts between dots, each a word or `*`, the last may be `**`."""
    if not _MATCH.fullmatch(match):
        raise ValueError("must be words and * between dots, such as payments.*.duration, with ** only at the end")


def check_template(text: str, match: str) -> None:
    """Raise ValueError if `$1` and its like refer to more than the pattern's `*`."""
    stars = len(re.findall(r"\*+", match))
    if any(not 1 <= int(one or other) <= stars for one, other in _REFERENCE.findall(text)):
        raise ValueError(f"the pattern has {stars or 'no'} *, so there is no such reference")


def _compiled(match: str) -> re.Pattern[str]:
    """Every `*` is one part, which cannot have a dot: no name takes more than linear time."""
    parts = {"*": r"([^.]+)", "**": r"(.+)"}
    return re.compile(r"\.".join(parts.get(part) or re.escape(part) for part in match.split(".")))


def _filled(text: str, match: re.Match[str]) -> str:
    return _REFERENCE.sub(lambda one: match[int(one[1] or one[2])], text)

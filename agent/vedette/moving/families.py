"""Floor 5: which metrics Datadog's openmetrics check keeps, and how it names them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from vedette.moving.patterns import globs

_SUFFIXES: Final = ("", ".count", ".sum", ".bucket", ".quantile")
"""What a family's metrics have after its name, depending on its type."""
_PLAIN: Final = re.compile(r"\w+", re.ASCII)


def keep(made: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """Put `metrics:` into an instance; returns what could not be said.

    With `openmetrics_endpoint` a name with special characters is a regular expression that is searched, with
    `prometheus_url` it is a glob.

    Raises:
        ValueError: it names no metric that can be said here, where all would be kept.
    """
    prefix = f"{made['namespace']}." if made.get("namespace") else ""
    searched = "openmetrics_endpoint" in given
    include: list[str] = []
    rename: dict[str, str] = {}
    lost: list[str] = []
    for key, name, new in _named(given):
        try:
            found = _globs(name, searched=searched)
        except ValueError as error:
            lost.append(f".{key}: {error}")
            continue
        include += [f"{prefix}{glob}" for glob in found]
        if new is not None and new != name:
            said, why = _renamed(name, new, prefix)
            rename |= said
            lost += [f".{key}: '{name}': {why}"] if why else []
    if not include:
        raise ValueError("names no metric that could be kept, and here all would be")
    exclude, not_excluded = _excluded(given, prefix, searched=searched)
    everything = f"{prefix}*" in include
    metrics = {"include": [] if everything else list(dict.fromkeys(include)), "exclude": exclude, "rename": rename}
    if found_any := {key: value for key, value in metrics.items() if value}:
        made["metrics"] = found_any
    return lost + not_excluded


def _named(given: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Option, name and new name or more of each entry."""
    for key in ("metrics", "extra_metrics"):
        listed = given.get(key) or ()
        for one in [listed] if isinstance(listed, str | dict) else listed:
            entries = one.items() if isinstance(one, dict) else [(one, None)]
            yield from ((key, str(name), new) for name, new in entries)


def _globs(name: str, *, searched: bool) -> list[str]:
    """Names here, which have no `_total` and may have a suffix of their own."""
    if _PLAIN.fullmatch(name):
        found = [name]
    elif searched:
        found = globs(name, start=False)
    elif "[" in name:
        raise ValueError(f"'{name}' is a pattern that cannot be said here")
    else:
        found = [name]
    made: list[str] = []
    for glob in found:
        bare = glob.removesuffix("_total")
        made += [bare] if bare.endswith("*") else [bare, f"{bare}.*"]
    return made


def _renamed(name: str, new: Any, prefix: str) -> tuple[dict[str, str], str]:
    """New names of all metrics that the family may have, and what could not be said."""
    why = ""
    if isinstance(new, dict):
        why = "only its name can be changed" if set(new) - {"name"} and new.get("type") != "native" else ""
        new = new.get("name", name)
    if not isinstance(new, str) or not _PLAIN.fullmatch(name):
        return {}, "a pattern is not renamed"
    bare = name.removesuffix("_total")
    if new == bare:
        return {}, why
    return {f"{prefix}{bare}{suffix}": f"{prefix}{new}{suffix}" for suffix in _SUFFIXES}, why


def _excluded(given: dict[str, Any], prefix: str, *, searched: bool) -> tuple[list[str], list[str]]:
    key = "exclude_metrics" if searched else "ignore_metrics"
    exclude: list[str] = []
    lost: list[str] = []
    for name in given.get(key) or ():
        try:
            exclude += [f"{prefix}{glob}" for glob in _globs(str(name), searched=searched)]
        except ValueError as error:
            lost.append(f".{key}: {error}")
    return exclude, lost

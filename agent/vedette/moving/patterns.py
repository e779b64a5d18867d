"""Floor 5: regular expressions of Datadog's options as globs, where those mean the same."""

from __future__ import annotations

import re
from itertools import product
from typing import Any, Final

from vedette.moving.values import partly

_MOST: Final = 32
"""Globs of one expression; more are not for people to read."""
_PART: Final = re.compile(
    r"""(?P<any>\.[*+]?)
    | \\(?P<escaped>[^A-Za-z0-9])
    | (?P<set>\[[A-Za-z0-9_]+\]|\[(?:0-9|a-z|A-Z)\]|\\d)
    | \((?:\?:)?(?P<choice>[\w/|-]+)\)
    | (?P<plain>[^\\.^$*+?{}\[\]|()])""",
    re.VERBOSE,
)
_REPEATED: Final = re.compile(r"[*+?{]")
_ANY: Final = {".": "?", ".*": "*", ".+": "?*"}


def globs(pattern: str, *, start: bool = True) -> list[str]:
    """Globs that find what a regular expression finds.

    Args:
        pattern: the expression.
        start: whether it is tried from the beginning of the text only, as `re.match` does.

    Raises:
        ValueError: no globs mean the same.
    """
    branches = _branches(pattern)
    return list(dict.fromkeys(glob for branch in branches for glob in _globs(branch, start=start)))


def _branches(pattern: str) -> list[str]:
    """What stands between `|` outside of groups."""
    found, depth, escaped = [""], 0, False
    for sign in pattern:
        depth += 0 if escaped else (sign == "(") - (sign == ")")
        if sign == "|" and depth == 0 and not escaped:
            found.append("")
            continue
        found[-1] += sign
        escaped = sign == "\\" and not escaped
    return found


def _globs(branch: str, *, start: bool) -> list[str]:
    anchored, ends = start or branch.startswith("^"), re.search(r"(?<!\\)(?:\\\\)*\$$", branch) is not None
    text = branch.removeprefix("^")
    text = text[:-1] if ends else text
    if not text:
        raise ValueError(_why(branch))
    parts: list[list[str]] = [[""] if anchored else ["*"]]
    place = 0
    while place < len(text):
        found = _PART.match(text, place)
        if found is None or (not found["any"] and _REPEATED.match(text, found.end())):
            raise ValueError(_why(branch))
        parts.append(_of(found))
        place = found.end()
    parts.append([""] if ends else ["*"])
    made = [re.sub(r"\*+", "*", "".join(one)) for one in product(*parts)]
    if len(made) > _MOST:
        raise ValueError(_why(branch))
    return made


def _of(found: re.Match[str]) -> list[str]:
    if found["any"]:
        return [_ANY[found["any"]]]
    if found["set"]:
        return ["[0-9]" if found["set"] == "\\d" else found["set"]]
    if found["choice"] is not None:
        return found["choice"].split("|")
    literal = found["escaped"] or found["plain"]
    return [f"[{literal}]" if literal in "*?[" else literal]


def _why(pattern: str) -> str:
    return f"'{pattern}' is a regular expression that no pattern here (a glob) stands for"


def excluded(value: Any) -> list[str]:
    """Patterns of what to leave out; one that cannot be said keeps no other one out.

    Raises:
        Partly: some cannot be said here.
        ValueError: none can.
    """
    made: list[str] = []
    lost: list[str] = []
    for one in value if isinstance(value, list) else [value]:
        try:
            made += globs(str(one))
        except ValueError as error:
            lost.append(f": {error}")
    if lost and not made:
        raise ValueError(lost[0].removeprefix(": "))
    return partly(made, lost)


def included(value: Any) -> list[str]:
    """Patterns of what to keep: all of them or none, since what is kept by a part of them is too little.

    Raises:
        ValueError: one cannot be said here.
    """
    return [glob for one in (value if isinstance(value, list) else [value]) for glob in globs(str(one))]

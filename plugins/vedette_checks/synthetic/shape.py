"""What is wrong with a step by itself: its name, its request, its expressions and patterns.

Not validators of its options: those would keep a flow from being read as a whole, and hide what is wrong elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from vedette_checks.synthetic.extract import extraction, pattern, search
from vedette_checks.synthetic.options import METHODS, Conditions, StepConfig, has_blank

Place = tuple[str | int, ...]
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_RESERVED = frozenset({"transaction", "step", "cleanup"})
_VARIABLE = re.compile(r"\{\{\s*[A-Za-z_]\w*\s*\}\}")


def step_problems(step: StepConfig) -> Iterator[tuple[Place, str]]:
    """Each problem with its place in the step; no value is repeated."""
    if not _NAME.fullmatch(step.name):
        yield ("name",), "must be a small letter, then small letters, digits and _, at most 64 in all"
    elif step.name in _RESERVED:
        yield ("name",), "has a meaning of its own in names of metrics; choose another"
    if wrong := line_problem(step):
        yield ("request",), wrong
    elif step.until is not None and not step.changes_nothing:
        yield (), "`until` would repeat a request that may change something; if it does not, say `safe: true`"
    bodies = [name for name, value in (("json", step.json_body), ("form", step.form), ("body", step.body)) if value]
    if len(bodies) > 1:
        yield (), f"has several bodies: {', '.join(bodies)}; keep one"
    for name, text in step.extract.items():
        if wrong := problem(extraction, text):
            yield ("extract", name), wrong
    if step.when and (wrong := problem(search, step.when)):
        yield ("when",), wrong
    for option, conditions in (("expect", step.expect), ("until", step.until)):
        if conditions is not None:
            yield from (((option, *place), text) for place, text in _conditions(conditions))


def line_problem(step: StepConfig) -> str:
    """What is wrong with `request`; empty if nothing is."""
    if step.method not in METHODS or not step.target:
        return "must be a method and an address, such as: GET /health"
    return "has a space in its address; write %20" if has_blank(step.target) else ""


def problem(reader: Callable[[str], Any], text: str) -> str:
    """Why this text cannot be read; empty if it can."""
    try:
        reader(text)
    except ValueError as error:
        return str(error)
    return ""


def _conditions(conditions: Conditions) -> Iterator[tuple[Place, str]]:
    for expression in conditions.json_values:
        if wrong := problem(search, expression):
            yield ("json",), f"a key {wrong}"
    if conditions.regex and (wrong := problem(pattern, conditions.regex)):
        yield ("regex",), wrong
    for name, text in conditions.headers.items():
        if wrong := problem(pattern, text):
            yield ("headers", name), wrong


def literal_variables(step: StepConfig) -> Iterator[Place]:
    """Patterns with a `{{ name }}`, which is not replaced in them."""
    for option, conditions in (("expect", step.expect), ("until", step.until)):
        if conditions is not None and _VARIABLE.search(conditions.regex):
            yield option, "regex"
        for name, text in conditions.headers.items() if conditions is not None else ():
            if _VARIABLE.search(text):
                yield option, "headers", name

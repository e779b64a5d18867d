"""Reads a flow as a whole: templates that are not well formed, variables that no earlier step sets, addresses."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from vedette import Secret
from vedette_checks.synthetic.extract import search, variables_in
from vedette_checks.synthetic.shape import line_problem, problem, step_problems
from vedette_checks.synthetic.templates import NAME, Template, texts

if TYPE_CHECKING:
    from vedette_checks.synthetic.config import SyntheticConfig
    from vedette_checks.synthetic.options import StepConfig

Place = tuple[str | int, ...]
BUILT_IN = frozenset({"run_id", "flow", "idempotency_key", "now"})
"""Variables that every flow has."""
_NOWHERE, _NOT_EARLIER = "which is not in `variables`", "which no earlier step extracts"


def check_flow(config: SyntheticConfig) -> None:
    """Find everything that would go wrong in any run.

    Raises:
        ValidationError: each problem at its place.
    """
    found = [*_headers(config), *_steps(config)]
    problems = [(of_url(place), text) for place, text in found] if config.url else found
    if problems:
        details = [
            InitErrorDetails(type=PydanticCustomError("vedette", "{text}", {"text": text}), loc=place, input=None)
            for place, text in problems
        ]
        raise ValidationError.from_exception_data("flow", details)


def of_url(place: Place) -> Place:
    """Where the user wrote what belongs to the one step that `url` makes."""
    if place[0] != "steps":
        return place
    return ("url",) if place[2:] == ("request",) else place[2:]


def needs(step: StepConfig, headers: dict[str, str]) -> frozenset[str]:
    """The variables that a step cannot do without."""
    found: set[str] = set(variables_in(step.when)) if step.when else set()
    for _, text in (*_texts(step), *texts(headers)):
        found.update(Template(text).names)
    return frozenset(found - BUILT_IN)


def _texts(step: StepConfig) -> Iterator[tuple[Place, str]]:
    """Every text of a step that may be a template, with its place."""
    auth = step.auth
    fields: tuple[tuple[Place, Any], ...] = (
        (("request",), step.target),
        (("headers",), step.headers),
        (("query",), step.query),
        (("json",), step.json_body),
        (("form",), step.form),
        (("body",), step.body),
        (("auth", "username"), auth.username if auth else None),
        (("auth", "password"), _revealed(auth.password) if auth else None),
        (("auth", "bearer"), _revealed(auth.bearer) if auth else None),
        (("expect", "json"), step.expect.json_values),
        (("until", "json"), step.until.json_values if step.until else None),
    )
    for place, value in fields:
        yield from texts(value, place)


def _revealed(secret: Secret | None) -> str | None:
    return secret.reveal() if secret is not None else None


def _headers(config: SyntheticConfig) -> Iterator[tuple[Place, str]]:
    for place, text in texts(config.headers, ("headers",)):
        yield from _template(place, text, {*config.variables, *BUILT_IN}, _NOWHERE)


def _steps(config: SyntheticConfig) -> Iterator[tuple[Place, str]]:
    known = {*config.variables, *BUILT_IN}
    names: set[str] = set()
    extracted: set[str] = set()
    for group, steps in (("steps", config.flow), ("cleanup", config.cleanup)):
        for number, step in enumerate(steps):
            place: Place = (group, number)
            if step.name in names:
                yield (*place, "name"), "another step has this name"
            names.add(step.name)
            yield from (((*place, *inner), text) for inner, text in step_problems(step))
            yield from _step(step, place, known, _NOWHERE if config.url else _NOT_EARLIER)
            yield from _address(config, step, place)
            for name in step.extract:
                yield from _extracted(config, name, (*place, "extract", name), extracted)
            extracted |= set(step.extract)
            known |= set(step.extract)
    for number, name in enumerate(config.show):
        if name not in extracted:
            yield (
                ("show", number),
                f"no step extracts {name}{_meant(name, extracted)}"
                if NAME.fullmatch(name)
                else ("is no name of a variable"),
            )


def _step(step: StepConfig, place: Place, known: set[str], why: str) -> Iterator[tuple[Place, str]]:
    for inner, text in _texts(step):
        yield from _template((*place, *inner), text, known, why)
    for name in variables_in(step.when) if step.when and not problem(search, step.when) else ():
        if name not in known:
            yield (*place, "when"), _unknown(name, known, why)


def _template(place: Place, text: str, known: set[str], why: str) -> Iterator[tuple[Place, str]]:
    try:
        template = Template(text)
    except ValueError as error:
        yield place, str(error)
        return
    for name in dict.fromkeys(template.names):
        if name not in known:
            yield place, _unknown(name, known, why)


def _unknown(name: str, known: set[str], why: str) -> str:
    return f"uses {name}, {why}{_meant(name, known)}"


def _meant(name: str, known: set[str]) -> str:
    close = get_close_matches(name, sorted(known), 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _extracted(config: SyntheticConfig, name: str, place: Place, before: set[str]) -> Iterator[tuple[Place, str]]:
    if not NAME.fullmatch(name):
        yield place, "a variable's name is letters, digits and _"
    elif name in BUILT_IN:
        yield place, f"every flow has {name} by itself; choose another name"
    elif name in config.variables:
        yield place, f"`variables` sets {name} already; choose another name"
    elif name in before:
        yield place, f"another step extracts {name} already; choose another name"


def _address(config: SyntheticConfig, step: StepConfig, place: Place) -> Iterator[tuple[Place, str]]:
    target, where = step.target, (*place, "request")
    if line_problem(step):
        return
    absolute = target.startswith(("http://", "https://"))
    if target.startswith("/"):
        if not config.base_url:
            yield where, "is a path, and the flow has no `base_url`"
    elif not absolute and not target.startswith("{{"):
        yield where, "must be a path that begins with /, or a URL that begins with http:// or https://"
    plain = target.startswith("http://") or (target.startswith("/") and config.base_url.startswith("http://"))
    if plain and step.expect.certificate_days is not None:
        yield (*place, "expect", "certificate_days"), "there is no certificate without https"

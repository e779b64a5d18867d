"""What is to be done so that Datadog has what the files say, and doing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vedette.datadog.api import KeyRefused, Missing, Refused, Unreachable
from vedette.datadog.compare import dashboard_form, differences, monitor_form, put_back
from vedette.datadog.payloads import id_of, mark_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vedette.datadog.api import Account
    from vedette.datadog.reading import Definition, Definitions

_FORMS: Final[dict[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "monitor": monitor_form,
    "dashboard": dashboard_form,
}
_TRIES: Final = 3
_ENOUGH: Final = 3
"""Dashboards in a row without any answer, after which Datadog is not asked any more."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, or that nothing is to be done.

    Attributes:
        what: `create`, `update`, `delete`, `keep` (nothing differs), `stray` (ours, but in no file) or `fail` (it
            cannot be looked at).
        kind: `monitor` or `dashboard`.
        key: its `<set>/<id>`.
        title: for people.
        definition: what the files say; None for what they do not say.
        there: what stands at Datadog, if anything.
        changes: what differs, a line each.
        error: why it cannot be looked at.
    """

    what: str
    kind: str
    key: str
    title: str
    definition: Definition | None = None
    there: dict[str, Any] | None = None
    changes: tuple[str, ...] = ()
    error: Refused | Unreachable | None = None


@dataclass(slots=True)
class Outcome:
    """What came of a step.

    Attributes:
        step: what was to be done.
        failed: why it was not; empty if it was.
        idle: whether it turned out that nothing differed.
        forbidden: whether the keys may not do it.
    """

    step: Step
    failed: str = ""
    idle: bool = False
    forbidden: bool = False


@dataclass(slots=True)
class Survey:
    """What of ours stands at Datadog: kind and key, and every object of it, the oldest first."""

    found: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, kind: str, key: str, body: dict[str, Any]) -> None:
        """Note one."""
        self.found.setdefault((kind, key), []).append(body)


def survey(account: Account, kinds: Iterable[str] = ("monitor", "dashboard")) -> Survey:
    """What of ours stands there; dashboards as summaries, which hold no widgets.

    Raises:
        Refused: by Datadog, keys among them.
        Unreachable: no usable answer.
    """
    made = Survey()
    for kind in kinds:
        for body in account.monitors() if kind == "monitor" else account.dashboards():
            key = id_of(body.get("tags") or ()) if kind == "monitor" else mark_of(body.get("description"))
            if key:
                made.add(kind, key, body)
    for bodies in made.found.values():
        bodies.sort(key=lambda body: (str(body.get("created") or body.get("created_at") or ""), str(body.get("id"))))
    return made


def plan(wanted: Definitions, there: Survey, account: Account, *, prune: bool) -> list[Step]:
    """The steps from what stands there to what is wanted; dashboards of ours are fetched whole.

    Args:
        wanted: what the files say.
        there: what stands there.
        account: where.
        prune: delete what no file says, but for the sets of others; nothing is, while a file has errors.

    Raises:
        Unreachable: several in a row got no usable answer.
    """
    steps: list[Step] = []
    for one in wanted.items:
        steps.append(_step(one, there.found.get((one.kind, one.key), []), account))
        silent = [step.error for step in steps[-_ENOUGH:] if isinstance(step.error, Unreachable)]
        if len(silent) == _ENOUGH:
            raise silent[-1]
    named = {(one.kind, one.key) for one in wanted.items}
    for (kind, key), bodies in there.found.items():
        if key.partition("/")[0] not in wanted.sets:
            continue
        for body in bodies[1:] if (kind, key) in named else bodies:
            what = "delete" if prune and not wanted.broken else "stray"
            steps.append(Step(what, kind, key, str(body.get("name") or body.get("title") or ""), None, body))
    return steps


def _step(one: Definition, bodies: list[dict[str, Any]], account: Account) -> Step:
    if not bodies:
        return Step("create", one.kind, one.key, one.title, one)
    try:
        body = bodies[0] if one.kind == "monitor" else account.dashboard(str(bodies[0].get("id")))
    except Missing:
        return Step("create", one.kind, one.key, one.title, one)
    except (Refused, Unreachable) as error:
        return Step("fail", one.kind, one.key, one.title, one, bodies[0], error=error)
    form = _FORMS[one.kind]
    changes = tuple(differences(form(body), form(one.body)))
    return Step("update" if changes else "keep", one.kind, one.key, one.title, one, body, changes)


def perform(step: Step, account: Account) -> Outcome:
    """Do a step. What fails fails alone."""
    try:
        if step.error is not None:
            raise step.error
        if step.what == "create" and step.definition is not None:
            _create(step.definition, account)
        elif step.what == "update" and step.definition is not None and step.there is not None:
            return Outcome(step, idle=_update(step.definition, step.there, account))
        elif step.what == "delete" and step.there is not None:
            account.delete(step.kind, step.there.get("id"))
    except (Refused, Unreachable) as error:
        return Outcome(step, failed=str(error), forbidden=isinstance(error, KeyRefused))
    return Outcome(step)


def _create(one: Definition, account: Account) -> None:
    """Create it once, also where an answer got lost: then it is looked for before it is tried again."""
    for attempt in range(1, _TRIES + 1):
        try:
            account.create(one.kind, one.body)
        except Unreachable as error:
            if not error.unsure or attempt == _TRIES:
                raise
            if (one.kind, one.key) in survey(account, (one.kind,)).found:
                return
        else:
            return


def _update(one: Definition, there: dict[str, Any], account: Account) -> bool:
    """Replace it; whether what Datadog then answers is what was there: it writes the same in its own way."""
    body = put_back(one.body, there) if one.kind == "monitor" else one.body
    if one.kind == "dashboard":
        extra: dict[str, Any] = {key: [] for key in ("template_variable_presets",) if there.get(key)}
        body = {**body, **extra}
    answer = account.update(one.kind, there.get("id"), body)
    form = _FORMS[one.kind]
    return form(answer) == form(there)

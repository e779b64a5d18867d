"""What people are told of an alert: a sentence, and the evidence."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any, Final, get_args

from vedette.alerts.latest import Each, Worst
from vedette.alerts.terms import names_in
from vedette.alerts.verdicts import FLIPPED
from vedette.notifier import Alert, Evidence, Severity
from vedette.rules.tree import STATUSES, Absent, Arithmetic, Change, Compare, StatusIs, Value, walk
from vedette.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Literal

    from vedette.alerts.compiled import Leaf
    from vedette.alerts.rule import Case

    Said = Callable[[str], str]

_BESIDE: Final = {"<": "below", "<=": "at most", ">": "above", ">=": "at least", "==": "equal to", "!=": "other than"}
_STATUS_IS: Final = {"==": operator.eq, "!=": operator.ne, ">=": operator.ge}
_STEP: Final = re.compile(r"\bstep\b", re.IGNORECASE)
_LONGEST: Final = 500
_LINES: Final = 2_000
_HANDFUL: Final = 5


def number(value: float) -> str:
    """A number for people."""
    if value in (float("inf"), float("-inf")):
        return "infinite"
    text = f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.1f}"
    return text.removesuffix(".0")


def leaf_of(case: Case, now: float) -> Leaf | None:
    """The comparison that the alert is about: the first that holds, else the first."""
    leaves = case.compiler.leaves
    return next((leaf for leaf in leaves if leaf.verdict(now)), leaves[0] if leaves else None)


def sentence(case: Case, now: float, said: Said) -> str:
    """What is seen, in one sentence.

    Args:
        case: the rule in its group.
        now: Unix seconds.
        said: gives what an instance says of itself.
    """
    leaf = leaf_of(case, now)
    seen = _seen(leaf, case, now, said) if leaf is not None else "nothing to look at"
    what = case.rule.config.summary or seen
    group = ", ".join(f"{key}:{case.labels[key]}" for key in case.rule.when.by if key in case.labels)
    text = f"{case.rule.name}{f' ({group})' if group else ''}: {what}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _seen(leaf: Leaf, case: Case, now: float, said: Said) -> str:
    value, node = leaf.read(now), leaf.node
    if isinstance(node, StatusIs):
        message = leaf.store.message if isinstance(leaf.store, Worst) else ""
        state = STATUSES[int(value)] if value is not None else "not known yet"
        return f"{node.target} is {state}{f': {message}' if message else ''}"
    if isinstance(node, Absent):
        if value is not None and value >= node.seconds and not leaf.verdict(now):
            return f"no data of {node.target} for {format_duration(value)}: it is taken to be gone"
        if value is None or not leaf.verdict(now):
            return f"data of {node.target} comes" if value is not None else f"no data of {node.target} yet"
        return f"no data of {node.target} for {format_duration(value)}"
    shown = node.right if not isinstance(node.left, Value | Change | Arithmetic) else node.left
    if value is None:
        return f"{shown} is not known yet"
    unit = _unit(node, case)
    beside = ""
    if leaf.limit is not None:
        word = _BESIDE[node.operator if shown is node.left else FLIPPED.get(node.operator, node.operator)]
        held = "" if leaf.verdict(now) else "not "
        beside = f", {held}{word} {number(leaf.limit)}"
    series = f" ({leaf.store.named})" if isinstance(leaf.store, Each) and leaf.store.named else ""
    return f"{shown}{series} is {number(value)}{f' {unit}' if unit else ''}{beside}"


def _unit(node: Compare, case: Case) -> str:
    sides = [side for side in (node.left, node.right) if isinstance(side, Value)]
    if len(sides) != 1 or sides[0].function == "count":
        return ""
    if sides[0].function == "days_left":
        return "day"
    unit = case.rule.kinds.get(sides[0].selector.metric, ("", ""))[1]
    return f"{unit} per second" if unit and sides[0].function == "rate" else unit


def evidence(case: Case, now: float, said: Said) -> Evidence:
    """Why the alert is what it is; all texts in it were masked when they were emitted."""
    leaf = leaf_of(case, now)
    message = ""
    for instance in instances_of(case):
        message = message or said(instance)
    if leaf is not None and isinstance(leaf.store, Worst):
        message = leaf.store.message or message
    step = message if _STEP.search(message) else ""
    return Evidence(
        condition=case.rule.written,
        values=leaf.store.plot() if leaf is not None and leaf.store is not None else (),
        unit=_unit(leaf.node, case) if leaf is not None and isinstance(leaf.node, Compare) else "",
        threshold=leaf.limit if leaf is not None and not isinstance(leaf.node, Absent) else None,
        error=message[:_LINES],
        step=step[:_LINES],
        links=tuple(case.rule.config.links.items()),
    )


def sources_of(case: Case) -> list[str]:
    """The instances that it is about, as far as the configuration tells."""
    return _mine(case, (one.instance for some in case.rule.sources.values() for one in some))


def instances_of(case: Case) -> list[str]:
    """The same, where that is no more than a handful."""
    names = sources_of(case)
    return names if len(names) <= _HANDFUL else []


def _mine(case: Case, names: Iterable[str]) -> list[str]:
    """Those of them that are in its group."""
    mine = case.labels.get("instance") if "instance" in case.rule.when.by else None
    wanted = names_in(mine) if mine is not None else ()
    return [name for name in dict.fromkeys(names) if mine is None or name.partition("/")[2] in wanted]


def culprits(case: Case, now: float) -> list[str]:
    """The instances of which the condition holds now; all that it is about where that cannot be told."""
    found: dict[str, None] = {}
    for leaf in case.compiler.leaves:
        if leaf.verdict(now):
            found.update(dict.fromkeys(_mine(case, _held_by(leaf, case, now))))
    return list(found) or sources_of(case)


def _held_by(leaf: Leaf, case: Case, now: float) -> list[str]:
    node, store = leaf.node, leaf.store
    if isinstance(node, StatusIs) and isinstance(store, Worst):
        compare, limit = _STATUS_IS[node.operator], STATUSES.index(node.status)
        return [one for (one, _), said in store.said.items() if compare(said.value, limit)]
    if isinstance(node, StatusIs | Absent):
        keys = [str(node.target)]
    else:
        keys = [str(one.selector) for one in walk(node) if isinstance(one, Value)]
    return [one.instance for key in keys for one in case.rule.sources.get(key, ())]


def alert(
    case: Case,
    state: Literal["firing", "acknowledged", "resolved"],
    now: float,
    said: Said,
    *,
    summary: str = "",
    at: float | None = None,
    reminder: bool = False,
) -> Alert:
    """What notifiers get.

    Args:
        case: the rule in its group.
        state: what has become of it.
        now: Unix seconds.
        said: gives what an instance says of itself.
        summary: instead of what is seen.
        at: when it became so, where that is not now.
        reminder: people know already.
    """
    instances = instances_of(case)
    text = summary or sentence(case, now, said)
    if state == "resolved" and not summary:
        text = f"recovered after {format_duration(max(0.0, now - case.incident.fired))}: {text}"
    return Alert(
        rule=case.rule.name,
        key=case.key,
        state=state,
        severity=case.rule.config.severity,
        summary=text,
        since=case.incident.fired,
        at=now if at is None else at,
        reminder=reminder,
        instance=case.home or (instances[0] if len(instances) == 1 else ""),
        labels=dict(case.labels),
        evidence=evidence(case, now, said),
        runbook=case.rule.config.runbook,
    )


def recovery(row: Mapping[str, Any], key: str, at: float, why: str) -> Alert:
    """That an incident is over whose rule or group is not there any more: all that is known of it was kept.

    Args:
        row: what was kept of it.
        key: rule and group.
        at: Unix seconds.
        why: why it is over.
    """
    labels = row.get("labels")
    severity: Severity = next((one for one in get_args(Severity) if one == row.get("severity")), "critical")
    return Alert(
        rule=str(row["rule"]),
        key=key,
        state="resolved",
        severity=severity,
        summary=f"{key}: {why}",
        since=float(row.get("fired") or 0.0),
        at=at,
        instance=str(row.get("instance") or ""),
        labels={str(name): str(value) for name, value in labels.items()} if isinstance(labels, dict) else {},
        evidence=Evidence(condition=str(row.get("condition") or "")),
        runbook=str(row.get("runbook") or ""),
    )

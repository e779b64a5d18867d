"""Whether anything can still come of the group of an incident that rules before these, or an earlier process, left."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from vedette.alerts.terms import names_in
from vedette.rules.tree import Absent, Selector, StatusIs, Value, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vedette.alerts.terms import Group
    from vedette.rules.model import Rule
    from vedette.rules.tree import Tag


def lost(rule: Rule | None, by: Sequence[str], group: Group, *, complete: bool) -> str:
    """Why nothing can come of this group any more; empty if something can.

    Args:
        rule: the rule of that name that is in force; None if there is none.
        by: what the incident's rule was grouped by.
        group: the values of that.
        complete: whether there are no instances but those that the configuration names.
    """
    if rule is None:
        return "the rule is not in force any more"
    if tuple(by) != rule.when.by:
        return "its rule is grouped otherwise now"
    labels = dict(zip(by, group, strict=True))
    if all(_excludes(tags, labels) for tags in _wanted(rule)):
        return "its rule does not look at it any more"
    if complete and labels.get("instance") is not None and not _has(rule, labels["instance"]):
        return "its instance is gone"
    return ""


def _has(rule: Rule, instance: str) -> bool:
    names = names_in(instance)
    return any(one.instance.partition("/")[2] in names for some in rule.sources.values() for one in some)


def _wanted(rule: Rule) -> Iterator[tuple[Tag, ...]]:
    """The tags that each thing must have that the condition looks at."""
    for node in walk(rule.when.test):
        match node:
            case Value():
                yield node.selector.tags
            case Absent(target=Selector() as target):
                yield target.tags
            case StatusIs():
                yield node.tags
            case Absent():
                yield ()
            case _:
                pass


def _excludes(tags: tuple[Tag, ...], labels: dict[str, str]) -> bool:
    return any(tag.key in labels and fnmatchcase(labels[tag.key], tag.value) is not tag.wanted for tag in tags)


def group_of_row(row: dict[str, Any]) -> tuple[tuple[str, ...], Group] | None:
    """What a kept incident's rule was grouped by, and its group; None where that makes no sense."""
    by, group = row.get("by"), row.get("group")
    if not isinstance(by, list) or not isinstance(group, list) or len(group) not in (0, len(by)):
        return None
    if len(group) != len(by) or not all(isinstance(one, str) for one in (*by, *group)):
        return None
    return tuple(by), tuple(group)

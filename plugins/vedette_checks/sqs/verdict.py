"""What figures of a queue amount to."""

from __future__ import annotations

from vedette import Status
from vedette_checks.sqs.age import Age
from vedette_checks.sqs.config import Thresholds
from vedette_checks.sqs.queues import Depth


def judge(
    depth: Depth, age: Age | None, letters: int | None, limits: Thresholds, *, age_missing: bool = False
) -> tuple[Status, str]:
    """The status of a queue, and why it is not OK.

    Args:
        depth: what SQS says.
        age: of the oldest message, if it is known.
        letters: messages in its dead-letter queue, if it has one and it is known.
        limits: from which figures on it is in trouble.
        age_missing: the age is not known because the question failed: it may be in trouble.
    """
    found: list[tuple[Status, str]] = []
    if over := _over(depth.visible, limits.depth_warning, limits.depth_critical):
        found.append((over[0], f"{depth.visible:,} messages wait ({over[1]} from {over[2]:,.0f} on)"))
    if age is not None and (over := _over(age.seconds, limits.age_warning, limits.age_critical)):
        said = f"the oldest message has waited {_time(age.seconds)} ({over[1]} from {_time(over[2])} on)"
        found.append((over[0], said))
    if letters is not None and limits.dead_letter_warning is not None and letters >= limits.dead_letter_warning:
        name = depth.dead_letter_name
        found.append((Status.WARNING, f"{letters:,} messages in the dead-letter queue {name}"))
    if age is None and age_missing and limits.of_age and not found:
        return Status.UNKNOWN, "the age of the oldest message is not known"
    worst = max((status for status, _ in found), default=Status.OK)
    return worst, "; ".join(text for _, text in sorted(found, key=lambda one: -one[0]))


def _over(value: float, warning: float | None, critical: float | None) -> tuple[Status, str, float] | None:
    if critical is not None and value >= critical:
        return Status.CRITICAL, "critical", critical
    if warning is not None and value >= warning:
        return Status.WARNING, "a warning", warning
    return None


def _time(seconds: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "m")):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds:.3g}s"

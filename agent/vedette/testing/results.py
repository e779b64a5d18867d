"""Looking things up in the batches that a check under test produced."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vedette.emit import Channel
    from vedette.errors import CheckError
    from vedette.metrics import Batch, Metric, Sample, ServiceCheck, Status, Value


class Results:
    """What a check under test said.

    Attributes:
        batches: everything handed over so far, oldest first.
        error: the `CheckError` of the last run, or None.
        state: the values stored for the instance: those given, then those committed.
    """

    def __init__(self, channel: Channel, metrics: Iterable[Metric], state: dict[str, Any]) -> None:
        self.batches: list[Batch] = []
        self.error: CheckError | None = None
        self.state = state
        self.metrics: dict[str, Metric] = {metric.name: metric for metric in metrics}
        """The declared metrics by name."""
        self.channel = channel
        """The instance's end of the line to the agent, for `assert_declared`."""

    async def save(self, key: str, value: Any) -> bool:
        """What `emit.save` does under test."""
        self.state[key] = json.loads(json.dumps(value, allow_nan=False))
        return True

    @property
    def batch(self) -> Batch:
        """The last batch.

        Raises:
            AssertionError: there is none.
        """
        if not self.batches:
            raise AssertionError("the check handed nothing over")
        return self.batches[-1]

    @property
    def dropped(self) -> dict[str, int]:
        """What was refused, by reason: undeclared, wrong_kind, not_finite, duplicate, …; empty is good."""
        return dict(self.channel.dropped)

    @property
    def commits(self) -> dict[str, Any]:
        """What was committed, over all batches; the later value of a key wins."""
        return {key: value for batch in self.batches for key, value in batch.commits}

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples that `value` and `values` look at."""
        return self.batch.samples

    @property
    def statuses(self) -> tuple[ServiceCheck, ...]:
        """The service checks that `status` and `message` look at."""
        return self.batch.statuses

    def values(self, name: str, **tags: object) -> list[Value]:
        """The values of this metric, in the order of emission, whose samples carry these tags among others."""
        return [sample.value for sample in self.samples if sample.name == name and _carries(sample.tags, tags)]

    def value(self, name: str, **tags: object) -> Value:
        """The value of the one sample of this name that carries these tags among others.

        Args:
            name: the metric's name.
            tags: `db="0"` asks for the tag `db:0`.

        Raises:
            AssertionError: there is none, or more than one; the text lists what there is.
        """
        found = self.values(name, **tags)
        if len(found) != 1:
            raise AssertionError(_report(name, tags, len(found), self.samples))
        return found[0]

    def status(self, name: str, **tags: object) -> Status:
        """The status of the one service check of this name that carries these tags; AssertionError as in `value`."""
        return self._service_check(name, tags).status

    def message(self, name: str, **tags: object) -> str:
        """The message of the one service check of this name that carries these tags; AssertionError as in `value`."""
        return self._service_check(name, tags).message

    def _service_check(self, name: str, tags: Mapping[str, object]) -> ServiceCheck:
        found = [check for check in self.statuses if check.name == name and _carries(check.tags, tags)]
        if len(found) != 1:
            raise AssertionError(_report(name, tags, len(found), self.statuses))
        return found[0]


def _carries(tags: tuple[str, ...], wanted: Mapping[str, object]) -> bool:
    return all(_tag(key, value) in tags for key, value in wanted.items())


def _tag(key: str, value: object) -> str:
    return f"{key}:{str(value).lower() if isinstance(value, bool) else value}"


def _report(name: str, tags: Mapping[str, object], found: int, there: Iterable[Sample | ServiceCheck]) -> str:
    wanted = " ".join([name, *(_tag(key, value) for key, value in tags.items())])
    lines = sorted(f"  {item.name} {' '.join(item.tags)}" for item in there)
    return "\n".join([f"expected one {wanted}, found {found or 'none'}; there is:", *(lines or ["  nothing"])])

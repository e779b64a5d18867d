"""What the optional parts of a run have in common: what they ask, when they answer, and which names become tags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from vedette import Emit
from vedette.kit import Budget, cut_tag
from vedette_checks.redis.findings import Advisor, Finding, unknown
from vedette_checks.redis.info import number
from vedette_checks.redis.options import OTHER
from vedette_checks.redis.session import Command

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_LONGEST = 100
_ROUND = 3600.0  # seconds


@dataclass(slots=True)
class Scene:
    """One run as its parts see it.

    Attributes:
        emit: where to.
        advisor: explains errors; knows the address.
        tags: tags of every sample.
        info: the fields of INFO; empty if it is refused.
        now: Unix seconds, by the server's clock where INFO tells it.
        findings: what was found wrong so far.
    """

    emit: Emit
    advisor: Advisor
    tags: tuple[str, ...]
    info: dict[str, str]
    now: float
    findings: list[Finding] = field(default_factory=list)

    @property
    def server(self) -> str:
        """The server's run id: another one means that it restarted or that another server answers now."""
        return self.info.get("run_id", "")

    @property
    def database(self) -> tuple[str, ...]:
        """Tags of samples that belong to the configured database."""
        return (*self.tags, f"redis_db:db{self.advisor.address.db}")

    def refused(self, error: Exception, command: str, key: str = "", *, about: str = "", option: str = "") -> None:
        """Note why the server refused a command.

        Args:
            error: its error reply.
            command: the command in lower case, with its subcommand as ACLs have it: `slowlog|get`.
            key: the key that it asked for, if any.
            about: what to begin the sentence with.
            option: the option to leave out where the server does not have the command.
        """
        why = self.advisor.refusal(error, command, key)
        if option and unknown(error):
            why = replace(why, hint=f"leave `{option}` out there")
        self.findings.append(replace(why, message=f"{about}: {why.message}") if about else why)

    def started_since(self, time: float) -> bool:
        """Whether the server was started after `time`, as far as INFO's whole seconds can tell."""
        uptime = number(self.info.get("uptime_in_seconds", ""))
        return uptime is not None and int(self.now) - uptime + 1 > time


class Part:
    """An optional part of a run. One object serves all runs of an instance."""

    def commands(self) -> Iterable[Command]:
        """What it adds to the run's pipeline."""
        return ()

    def take(self, replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        """Take the replies of `commands`; returns what remains to be asked in a second exchange."""
        return ()

    def take_late(self, replies: Iterator[Any], scene: Scene) -> None:
        """Take the replies to what `take` returned."""

    def settle(self, scene: Scene) -> None:
        """Called when nothing can fail any more: report what must be reported once, and commit how far it went."""


def tag_value(raw: bytes | str) -> str:
    """The name as a tag's value, as the agent would make it anyway: so that no two names become one unseen."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    text = _CONTROL.sub("_", cut_tag(text, _LONGEST)).strip()
    head, colon, last = text.rpartition(":")
    return f"{head}{colon}{last.lower()}" if last in ("True", "False") else text


class Names:
    """Limits how many names that others choose become tags; the others become `other`.

    The names first seen stay. Room is made once an hour, for names that the hour before did not see: who makes up a
    new name every second still makes no more than `limit` series an hour.

    Args:
        limit: most names.
        what: what they name, for the tag of the count of what was cut.
    """

    def __init__(self, limit: int, what: str) -> None:
        self._budget = Budget(limit)
        self._what = what
        self._since = 0.0

    def begin(self, now: float) -> None:
        """Begin a run; `now` in Unix seconds."""
        if not 0 <= now - self._since < _ROUND:
            self._since = now
            self._budget.begin()

    def admits(self, name: object) -> bool:
        """Whether the name may be a tag."""
        return self._budget.admit(name)

    def tag(self, raw: bytes | str) -> str:
        """The name as the value of a tag, or `other`."""
        value = tag_value(raw)
        return value if self._budget.admit(value) else OTHER

    def report(self, scene: Scene) -> None:
        """Say how many names were cut, if any."""
        if self._budget.cut:
            scene.emit.gauge("redis.tags.cut", self._budget.cut, (*scene.tags, f"of:{self._what}"))

"""What waits for one notifier: a small JSON file for each alert, so that no kill loses one that was accepted."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vedette.alerts.keeping import write_json
from vedette.notifier import Alert, alert_data, alert_from
from vedette.prose import clip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger("vedette.notifier")
_LONGEST = 20_000
"""Characters of a text."""
_RANKS = {"critical": 0, "error": 1, "warning": 2, "info": 3}


@dataclass(slots=True)
class Letter:
    """An alert that has still to arrive.

    Attributes:
        number: grows from letter to letter.
        alert: what to tell.
        accepted: Unix seconds.
        arrived: the event loop's time at which it came; minus infinity for one of an earlier process.
        attempts: how often it was tried by this process.
        alone: not to be told together with others: the receiver refused that.
        back: how often it failed while others may have been better: those come first.
        last: another agent has the say about the incident by now: one attempt, and no more.
    """

    number: int
    alert: Alert
    accepted: float
    arrived: float
    attempts: int = 0
    alone: bool = False
    back: int = 0
    last: bool = False

    @property
    def urgency(self) -> tuple[int, int, bool, int]:
        """What is told first sorts first: what failed least, then by severity, reminders last, then by age."""
        return self.back, _RANKS.get(self.alert.severity, 0), self.alert.reminder, self.number

    @property
    def worth(self) -> tuple[bool, bool, int, int]:
        """What is given up first sorts first: reminders and infos, the mildest, the oldest; recoveries last of all."""
        alert = self.alert
        is_news = not (alert.reminder or alert.severity == "info")
        return alert.state == "resolved", is_news, -_RANKS.get(alert.severity, 0), self.number


def supersedes(newer: Alert, older: Alert, *, keyed: bool = False) -> bool:
    """Whether nobody needs to hear of `older` any more: it never arrived, and `newer` tells how the incident is now.

    A recovery says since when it was firing. A new firing after a recovery that waits is told after it: the receiver
    still shows the incident before.

    Args:
        newer: what has become of an incident.
        older: what waits.
        keyed: whether the receiver keeps incidents by key: it ignores the acknowledgement of one it does not know.
    """
    if newer.key != older.key or (keyed and newer.state == "acknowledged" and older.state == "firing"):
        return False
    return newer.state == "resolved" or older.state != "resolved"


class Letterbox:
    """The queue of one notifier, the most urgent first, each incident's letters in order.

    A letter is in the kernel's hands when `add` returns (which survives any kill of the process), and on the platter
    soon after: `sync` is for another thread.

    Args:
        folder: of its own; created when it is needed. None keeps all in memory.
        most: letters at most; beyond that the one of least worth goes.
        keyed: whether the receiver keeps incidents by key.
    """

    def __init__(
        self, folder: Path | None, most: int = 2_000, keyed: Callable[[Alert], bool] = lambda alert: False
    ) -> None:
        self.folder = folder
        self.keyed = keyed
        self.trouble = ""
        """Why letters are not durable now; empty while they are."""
        self._most = most
        self._letters: dict[int, Letter] = {}
        self._next = 1
        self._in_flight: frozenset[int] = frozenset()
        self._unsynced: list[Path] = []
        if folder is not None:
            try:
                self._read(folder)
            except OSError as error:
                self.trouble = f"what waited for it cannot be read: {folder}: {error.strerror}"

    def __len__(self) -> int:
        return len(self._letters)

    @property
    def oldest(self) -> float | None:
        """When the oldest letter was accepted, in Unix seconds."""
        return min((one.accepted for one in self._letters.values()), default=None)

    def add(self, alert: Alert, accepted: float, arrived: float) -> int:
        """Take over an alert; returns how many were given up for it since there was no room."""
        alert = _fit(alert)
        keyed = self.keyed(alert)
        for letter in [one for one in self._waiting(alert.key) if supersedes(alert, one.alert, keyed=keyed)]:
            alert = _merged(alert, letter.alert)
            self.drop(letter)
        letter = self._letters[self._next] = Letter(self._next, alert, accepted, arrived)
        self._next += 1
        self._write(letter)
        lost = 0
        while len(self._letters) - len(self._in_flight) > self._most:
            waiting = (one for one in self._letters.values() if one.number not in self._in_flight)
            self.drop(min(waiting, key=lambda one: one.worth))
            lost += 1
        return lost

    def heads(self) -> list[Letter]:
        """The first letter of each incident, the most urgent first."""
        first: dict[str, Letter] = {}
        for letter in self._letters.values():
            first.setdefault(letter.alert.key, letter)
        return sorted(first.values(), key=lambda one: one.urgency)

    def begin_anew(self) -> None:
        """The receiver did not answer, and does: none comes after others for having failed."""
        for letter in self._letters.values():
            letter.back = 0

    def of(self, key: str | None = None) -> list[Letter]:
        """The letters of an incident, or all, in order."""
        return [one for one in self._letters.values() if key is None or one.alert.key == key]

    def flies(self, letter: Letter) -> bool:
        """Whether it is being told."""
        return letter.number in self._in_flight

    def take(self, letters: list[Letter]) -> None:
        """These are being told."""
        self._in_flight = frozenset(one.number for one in letters)

    def give_back(self) -> None:
        """What was being told is not any more; what newer letters say better goes."""
        flown, self._in_flight = self._in_flight, frozenset()
        for number in flown:
            older = self._letters.get(number)
            newer = [one for one in self._waiting(older.alert.key) if one.number > number] if older else []
            if older is None or not newer:
                continue
            if supersedes(newer[0].alert, older.alert, keyed=self.keyed(newer[0].alert)):
                newer[0].alert = _merged(newer[0].alert, older.alert)
                self._write(newer[0])
                self.drop(older)

    def drop(self, letter: Letter) -> None:
        """It arrived, or is given up."""
        self._letters.pop(letter.number, None)
        if self.folder is not None:
            with suppress(OSError):
                self._path(letter).unlink(missing_ok=True)

    @property
    def unsynced(self) -> bool:
        """Whether something was written that the disk may not keep yet."""
        return bool(self._unsynced)

    def sync(self) -> None:
        """Have the disk keep what was written; blocks, and may be called in any thread."""
        paths, self._unsynced = self._unsynced, []
        for path in {*paths, *(path.parent for path in paths)}:
            with suppress(OSError):
                number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(number)
                finally:
                    os.close(number)

    def _waiting(self, key: str) -> list[Letter]:
        return [one for one in self.of(key) if not self.flies(one)]

    def _path(self, letter: Letter) -> Path:
        assert self.folder is not None  # noqa: S101 - who asks has looked
        return self.folder / f"{letter.number:012d}.json"

    def _write(self, letter: Letter) -> None:
        if self.folder is None:
            return
        path = self._path(letter)
        data = {"accepted": letter.accepted, "alert": alert_data(letter.alert)}
        try:
            write_json(path, data)
        except OSError as error:
            self.trouble = f"alerts wait in memory only: {self.folder}: {error.strerror}"
        else:
            self._unsynced.append(path)
            self.trouble = ""

    def _read(self, folder: Path) -> None:
        if not folder.exists():
            return
        for path in sorted(folder.iterdir()):
            if path.suffix != ".json" or not path.stem.isdecimal():
                continue
            self._next = max(self._next, int(path.stem) + 1)
            try:
                data = json.loads(path.read_bytes())
                letter = Letter(int(path.stem), alert_from(data["alert"]), float(data["accepted"]), float("-inf"))
            except OSError as error:
                log.warning("%s cannot be read: %s", path, error.strerror)
            except (ValueError, KeyError, TypeError):
                with suppress(OSError):
                    path.rename(path.with_suffix(".damaged"))
                log.warning("%s is damaged and was set aside: an alert may not have been told", path)
            else:
                self._letters[letter.number] = letter


def _fit(alert: Alert) -> Alert:
    """An alert that every receiver can be sent: texts of a sensible length, in characters that there are."""
    evidence = alert.evidence
    short = replace(
        alert,
        summary=clip(alert.summary, _LONGEST),
        evidence=replace(evidence, error=clip(evidence.error, _LONGEST), step=clip(evidence.step, _LONGEST)),
    )
    text = json.dumps(alert_data(short), ensure_ascii=False)
    return short if text.isascii() else alert_from(json.loads(text.encode(errors="replace")))


def _merged(newer: Alert, older: Alert) -> Alert:
    """The newer one; no mere reminder if nobody was told before."""
    return replace(newer, reminder=False) if newer.reminder and not older.reminder else newer

"""Who was told of an incident: its end is told to the same, wherever an alert of its kind would go by now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vedette.alerts.keeping import Journal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vedette.notifier import Alert

_FILE: Final = ".told.json"
"""No notifier is called so: names begin with a letter or a digit."""
_MOST: Final = 5_000


class Addressees:
    """Notifiers by incident; outlives the process.

    Args:
        folder: of the dispatcher; None keeps all in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._kept = Journal(folder / _FILE if folder is not None else None)

    def of(self, alert: Alert) -> list[str] | None:
        """Who was told that it fires; None if this agent told nobody."""
        kept = self._kept.get(alert.key)
        return [str(name) for name in kept] if isinstance(kept, list) else None

    def note(self, alert: Alert, names: Iterable[str], *, also: bool = False) -> None:
        """These are told of an alert: beside those who know the incident, unless it has just begun.

        Args:
            alert: what has become of it.
            names: notifiers.
            also: others were told the same.
        """
        if alert.state == "resolved":
            self.forget(alert.key)
            return
        told = self.of(alert)
        begins = alert.state == "firing" and not alert.reminder and not also
        now = list(dict.fromkeys([*((not begins and told) or ()), *names]))
        if now != told:
            while len(self._kept) >= _MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[alert.key] = now

    def forget(self, key: str) -> None:
        """The incident is over, or another agent's."""
        self._kept.pop(key, None)

    def rename(self, old: str, new: str = "") -> None:
        """A notifier is called otherwise, or is gone."""
        for key, kept in list(self._kept.items()):
            if isinstance(kept, list) and old in kept:
                after = [new if name == old else name for name in kept]
                self._kept[key] = list(dict.fromkeys(filter(None, after)))

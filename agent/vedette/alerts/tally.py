"""How telling goes at one notifier: figures, and what is the matter, in the log once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable


class Tally:
    """What came of the attempts so far.

    Args:
        mask: blots secrets out of failures.
        log: the notifier's.

    Attributes:
        sent: alerts that arrived.
        given_up: alerts that never will.
        errors: failed attempts.
        trouble: what is the matter now; empty if nothing is.
        last_error: what was the matter last.
        last_sent: Unix seconds of the last that arrived; 0 if none did.
    """

    def __init__(self, mask: Callable[[str], str], log: logging.Logger) -> None:
        self._mask = mask
        self._log = log
        self.sent = self.given_up = self.errors = 0
        self.trouble = self.last_error = ""
        self.last_sent = 0.0

    def told(self, number: int, now: float) -> None:
        """So many alerts arrived."""
        self.sent += number
        self.last_sent = now

    def gave_up(self, number: int, what: str) -> None:
        """So many alerts will never arrive."""
        self.given_up += number
        self.failed(what)

    def failed(self, what: str) -> None:
        """Something is the matter."""
        self.errors += 1
        what = " ".join(self._mask(what).split())
        self.last_error = what
        if what != self.trouble:
            self.trouble = what
            self._log.warning("%s", what)

    def worked(self, but: str = "") -> None:
        """An attempt succeeded, save for something that the notifier says."""
        if but:
            self.failed(but)
        elif self.trouble:
            self.trouble = ""
            self._log.info("telling works again")

"""Floor 0: the right to run an instance that only one agent of a fleet may run, and when it ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def boottime() -> float:
    """Seconds on a clock that goes on while the machine is suspended, and that nobody sets (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Term:
    """How long this agent may count itself a member of its fleet; all of its leases end with it.

    Args:
        clock: seconds; see `boottime`.
    """

    __slots__ = ("_clock", "_ended", "until")

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self.until = float("-inf")
        """When it ends unless it is extended before, on `clock`."""
        self._clock = clock
        self._ended = False

    @property
    def current(self) -> bool:
        """Whether it has neither run out nor been ended. Once it was seen to have run out it never comes back."""
        if not self._ended and self._clock() >= self.until:
            self._ended = True
        return not self._ended

    @property
    def left(self) -> float:
        """Seconds left, 0 once it has ended."""
        return max(0.0, self.until - self._clock()) if self.current else 0.0

    def end(self) -> None:
        """End it now and for good."""
        self._ended = True


class Lease:
    """The right to run one instance, as long as the term lasts and nobody takes it back.

    What was collected under it may be sent a little longer: until it is given up, so that another one can get it.

    Args:
        term: the member's.
        instance: instance id.
        token: grows with every change of the owner (Kleppmann, "How to do distributed locking", 2016: fencing token).
        soon: seconds from now within which the first run is to begin: others may have been waiting for it.
    """

    __slots__ = ("_over", "_revoked", "instance", "soon", "term", "token")

    def __init__(self, term: Term, instance: str, token: int, soon: float = 10.0) -> None:
        self.instance = instance
        self.token = token
        self.soon = soon
        self.term = term
        self._revoked = self._over = False

    @property
    def held(self) -> bool:
        """Whether it holds at this moment. To be asked immediately before whatever only the owner may do."""
        return not self._revoked and self.term.current

    @property
    def lasts(self) -> bool:
        """Whether nobody else can have one. To be asked immediately before what was collected under it is sent."""
        return not self._over and self.term.current

    def revoke(self) -> None:
        """Let nothing new begin under it, for good; the next owner gets another."""
        self._revoked = True

    def end(self) -> None:
        """It is about to be given up, or is another's: nothing is sent any more either."""
        self._revoked = self._over = True

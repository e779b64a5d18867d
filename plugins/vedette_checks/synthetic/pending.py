"""What is still to be taken back: written to state before a payment is made, so that not even a kill forgets it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vedette import Emit

KEY = "pending"
"""Key of the instance's state."""
_MOST = 100


@dataclass(slots=True)
class Pending:
    """One attempt at a flow that may have left something behind.

    Attributes:
        run_id: the run.
        attempt: which attempt of it.
        at: when it began, Unix seconds.
        variables: those that the cleanup needs, as far as they are known.
        open: steps whose request is on its way, or of which no answer has told yet what they did.
        touched: whether a request that may change something has reached the server and was not refused.
        done: cleanup steps that need not be performed again.
        tries: how often the cleanup was tried.
        lost: why it was given up: `unknown` (what to take back was never told) or `failed`; empty while it is not.
    """

    run_id: str
    attempt: int
    at: float = field(default_factory=time.time)
    variables: dict[str, Any] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    touched: bool = False
    done: list[str] = field(default_factory=list)
    tries: int = 0
    lost: str = ""

    @classmethod
    def read(cls, stored: Any) -> Pending | None:
        """What was stored, or None if it cannot be read."""
        try:
            return cls(**stored)
        except TypeError:
            return None


class Register:
    """The attempts of an instance that are not settled yet.

    Args:
        state: what the instance stored.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._state = state
        self._entries: list[Pending] | None = None
        self._cut = 0

    async def begin(self, emit: Emit) -> list[Pending]:
        """The unsettled attempts of earlier runs, at the beginning of a run.

        Those of another process are taken over only if this one may write state: `vedette check` beside a running
        agent must not take back what that one is about to.
        """
        if self._entries is None:
            stored = self._state.get(KEY)
            found = [Pending.read(one) for one in stored] if isinstance(stored, list) else []
            entries = [one for one in found if one is not None]
            mine = not entries or await emit.save(KEY, _plain(entries))
            self._entries = entries if mine else []
        else:
            self._entries = [one for one in self._entries if not one.lost]
        for one in self._entries:
            one.lost = ""  # given up, but the batch that says so was never handed over: it counts now
        return list(self._entries)

    async def write(self, emit: Emit, entry: Pending) -> None:
        """Store this attempt now, before going on."""
        entries = self._all()
        if entry not in entries:
            entries.append(entry)
            while len(entries) > _MOST:
                entries.pop(0)
                self._cut += 1
        await emit.save(KEY, _plain(entries))

    async def settle(self, emit: Emit, entry: Pending) -> None:
        """Forget an attempt that left nothing behind."""
        entries = self._all()
        if entry in entries:
            entries.remove(entry)
            await emit.save(KEY, _plain(entries))

    def give_up(self, entry: Pending, reason: str) -> None:
        """Note that an attempt cannot be taken back; it is forgotten with the batch that counts it."""
        entry.lost = reason
        entries = self._all()
        if entry not in entries:
            entries.append(entry)

    def finish(self, emit: Emit) -> None:
        """At the end of a run: what was given up in it is forgotten once the batch that says so is handed over."""
        entries = self._all()
        if any(one.lost for one in entries):
            emit.commit(KEY, _plain(one for one in entries if not one.lost))

    def take_cut(self) -> int:
        """Attempts that were given up because there were too many, since this was asked last."""
        cut, self._cut = self._cut, 0
        return cut

    def _all(self) -> list[Pending]:
        if self._entries is None:
            self._entries = []
        return self._entries

    @property
    def waiting(self) -> int:
        """How many attempts are still to be taken back."""
        return sum(not one.lost for one in self._all())


def _plain(entries: Iterable[Pending]) -> list[dict[str, Any]]:
    return [asdict(one) for one in entries]

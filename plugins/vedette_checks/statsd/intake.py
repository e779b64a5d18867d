"""What is done with a packet: known lines the short way, others the careful one, malformed ones counted."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from vedette.kit import cut_text
from vedette_checks.statsd.config import StatsdConfig
from vedette_checks.statsd.contexts import Contexts
from vedette_checks.statsd.protocol import CheckLine, EventLine, MalformedError, MetricLine, parse

MOST_EVENTS = 10_000
"""Events, and as many service checks, that are kept until they are handed on."""

_MOST_KEPT = 16 << 20  # bytes of these
_MOST_PENDING = 64 << 10  # bytes of packets after which some of the slots are emptied
_QUIET = 60.0  # seconds between two log lines about malformed packets
_MOST_SHOWN = 120
_CR = b"\r"


class Intake:
    """Takes packets.

    Args:
        config: the instance's options.
        log: where malformed lines are shown, some of them.
        clock: monotonic seconds.
    """

    def __init__(self, config: StatsdConfig, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self.contexts = Contexts(config, self._complain)
        self.events: list[EventLine] = []
        self.checks: deque[CheckLine] = deque()
        self.kept = 0
        """Bytes of these two."""
        self.malformed = 0
        """Lines, or frames of a stream, that were not understood since that was last told."""
        self.too_many = 0
        """Events and service checks for which there was no room since that was last told."""
        self._log = log
        self._clock = clock
        self._pending = 0
        self._unsaid = 0
        self._said = float("-inf")

    def take(self, packet: bytes, sender: str) -> None:
        """Take a packet: lines of DogStatsD.

        A line `name:value|tail` whose name and tail are known costs two cuts, two look-ups and an append; the numbers
        are read later, many at once.
        """
        known = self.contexts.known
        for line in packet.split(b"\n"):
            head, _, tail = line.partition(b"|")
            name, _, value = head.partition(b":")
            try:
                known[tail][name](value)
            except KeyError:
                self._meet(line, sender)
        self._pending += len(packet)
        if self._pending > _MOST_PENDING:
            self._pending = 0
            self.contexts.fold_some()

    def _meet(self, line: bytes, sender: str) -> None:
        whole = line.removesuffix(_CR)
        if not whole:
            return
        try:
            found = parse(whole)
        except MalformedError as error:
            self._complain(whole, str(error), sender)
            return
        if isinstance(found, MetricLine):
            head, _, tail = line.partition(b"|")
            self.contexts.meet(found, head.partition(b":")[0], tail, sender)
        else:
            self._keep(found, len(line))

    def _keep(self, found: EventLine | CheckLine, size: int) -> None:
        if max(len(self.events), len(self.checks)) >= MOST_EVENTS or self.kept + size > _MOST_KEPT:
            self.too_many += 1
            return
        self.kept += size
        if isinstance(found, EventLine):
            self.events.append(found)
        else:
            self.checks.append(found)

    def bad_frame(self, frame: bytes, why: str, sender: str) -> None:
        """Count something that cannot hold a packet."""
        self._complain(frame, why, sender)

    def _complain(self, line: bytes, why: str, sender: str = "") -> None:
        """Count a malformed line, and log one of them now and then."""
        self.malformed += 1
        self._unsaid += 1
        now = self._clock()
        if now - self._said < _QUIET:
            return
        self._said = now
        shown = repr(cut_text(line.decode("latin-1"), _MOST_SHOWN).encode("latin-1"))[2:-1] + (
            "…" if len(line) > _MOST_SHOWN else ""
        )
        by = f" from {sender}" if sender else ""
        others = f"; {self._unsaid - 1} more since the last one shown" if self._unsaid > 1 else ""
        self._log.warning("not understood%s: %s: %s%s", by, shown, why, others)
        self._unsaid = 0

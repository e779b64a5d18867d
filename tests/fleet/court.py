"""Records every run and every packet of a fleet in the order in which they happened, and judges it."""

from __future__ import annotations

import json
import socket
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import Any

_LATE = 30.0
_AROUND = 10.0


@dataclass(frozen=True, slots=True)
class Deed:
    """Something an agent did as the owner of an instance.

    Attributes:
        what: `run`: a run began; `sent`: a packet left.
        instance: which.
        by: agent, process and term.
        token: of the lease.
        windows: the closed windows in the packet.
        at: seconds on the clock that all processes of the machine share.
        wall: the agent's own clock.
    """

    what: str
    instance: str
    by: str
    token: int
    windows: tuple[int, ...]
    at: float
    wall: float


@dataclass
class Verdict:
    """What came out.

    Attributes:
        begun: runs that began although another had got the instance.
        strays: packets likewise.
        lost: windows that nobody sent.
        again: packets with windows that had been sent before, always with the same value and time.
        doubled: those of them after an owner whose term went on: it had time to hand over what it had sent.
        rewound: packets that went back further than to where the packet before them began.
        runs: how many runs there were.
        packets: how many packets.
        moves: how often an instance changed its owner.
    """

    begun: list[Deed] = field(default_factory=list)
    strays: list[Deed] = field(default_factory=list)
    lost: list[tuple[str, int]] = field(default_factory=list)
    rewound: list[Deed] = field(default_factory=list)
    again: list[Deed] = field(default_factory=list)
    doubled: list[Deed] = field(default_factory=list)
    runs: int = 0
    packets: int = 0
    moves: int = 0


class Court:
    """A UDP port that agents tell what they do. A context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.deeds: list[Deed] = []
        self._newest: dict[str, Deed] = {}
        self._reached: dict[str, int] = {}
        self.wiped: list[float] = []
        """When an engine lost everything, tokens included."""
        self._ended = False
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Court:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
            knock.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while True:
            data = self._socket.recv(65_535)
            if self._ended:
                return
            row = json.loads(data)
            deed = Deed(**{**row, "windows": tuple(row["windows"])})
            self.deeds.append(deed)
            if deed.windows:
                self._reached[deed.instance] = max(deed.windows[-1], self._reached.get(deed.instance, 0))
            if deed.what == "run":
                self._newest[deed.instance] = deed

    def runs(self, since: float = 0.0) -> list[Deed]:
        """The runs since then, newest first; those whose agent was stopped while it told of them may come late."""
        recent = takewhile(lambda deed: deed.at >= since - _LATE, reversed(self.deeds))
        return [deed for deed in recent if deed.what == "run" and deed.at >= since]

    def owners(self, since: float) -> dict[str, str]:
        """Which agent began the last run of each instance, since then. Cheap: tests ask again and again."""
        newest = self._newest.copy().values()
        return {deed.instance: deed.by.partition("/")[0] for deed in newest if deed.at >= since}

    def reached(self, at: float) -> set[str]:
        """The instances whose windows were sent up to then, on the clock that all processes share."""
        return {name for name, window in self._reached.copy().items() if window >= int(at * 10)}

    def gaps(self, since: float = 0.0) -> dict[str, float]:
        """The longest time between two runs of each instance."""
        times: dict[str, list[float]] = defaultdict(list)
        for deed in self.runs(since):
            times[deed.instance].append(deed.at)
        return {name: max((b - a for a, b in pairwise(sorted(some))), default=0.0) for name, some in times.items()}

    def judge(self) -> Verdict:
        """Look at everything so far. The order of the tokens is the law; who has lost everything begins a new era."""
        verdict, eras = Verdict(), self._eras()
        newest: dict[str, tuple[int, int]] = {}
        owner: dict[str, str] = {}
        last: dict[str, Deed] = {}
        active: dict[str, float] = {}
        sources: list[tuple[Deed, Deed]] = []
        sent: dict[str, set[int]] = defaultdict(set)
        for deed in list(self.deeds):
            rank, known = (eras[deed.by], deed.token), newest.get(deed.instance, (0, 0))
            stale = rank < known or (rank == known and owner[deed.instance] != deed.by)
            if deed.what == "run":
                verdict.runs += 1
                if stale:
                    verdict.begun.append(deed)
                    continue
                active[deed.by] = deed.at
                if rank > known:
                    newest[deed.instance], owner[deed.instance] = rank, deed.by
                    verdict.moves += 1
            else:
                verdict.packets += 1
                if stale:
                    verdict.strays.append(deed)
                if not deed.windows:
                    continue
                before = last.get(deed.instance)
                if before is not None and deed.windows[0] < before.windows[0]:
                    verdict.rewound.append(deed)
                if before is not None and not sent[deed.instance].isdisjoint(deed.windows):
                    sources.append((deed, before))
                last[deed.instance] = deed
                sent[deed.instance].update(deed.windows)
        for name, numbers in sent.items():
            missing = set(range(min(numbers), max(numbers) + 1)) - numbers
            verdict.lost += [(name, number) for number in sorted(missing)]
        verdict.again = [deed for deed, _ in sources]
        verdict.doubled = [deed for deed, before in sources if active.get(before.by, 0.0) > deed.at]
        return verdict

    def story(self, lost: list[tuple[str, int]]) -> str:
        """What happened around the first lost window, one deed a line; empty where none was lost."""
        if not lost:
            return ""
        name, number = lost[0]
        near = [one for one in list(self.deeds) if one.instance == name and abs(one.at - number / 10) < _AROUND]
        lines = (f"{one.at:.2f} {one.what} {one.by} {one.token} {one.windows[:1]}-{one.windows[-1:]}" for one in near)
        return "\n".join((f"{len(lost)} lost, the first is {number} of {name}", *lines))

    def _eras(self) -> dict[str, int]:
        """Terms that began after everything was lost belong to the time after it."""
        first: dict[str, float] = {}
        for deed in list(self.deeds):
            first.setdefault(deed.by, deed.at)
        return {by: sum(at > wiped for wiped in self.wiped) for by, at in first.items()}

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
        again: windows that were sent more than once, always with the same value and time.
        rewound: packets that went back further than to where the packet before them began.
        runs: how many runs there were.
        packets: how many packets.
        moves: how often an instance changed its owner.
    """

    begun: list[Deed] = field(default_factory=list)
    strays: list[Deed] = field(default_factory=list)
    lost: list[tuple[str, int]] = field(default_factory=list)
    rewound: list[Deed] = field(default_factory=list)
    again: int = 0
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
        last: dict[str, int] = {}
        windows: dict[str, list[int]] = defaultdict(list)
        for deed in list(self.deeds):
            rank, known = (eras[deed.by], deed.token), newest.get(deed.instance, (0, 0))
            stale = rank < known or (rank == known and owner[deed.instance] != deed.by)
            if deed.what == "run":
                verdict.runs += 1
                if stale:
                    verdict.begun.append(deed)
                elif rank > known:
                    newest[deed.instance], owner[deed.instance] = rank, deed.by
                    verdict.moves += 1
            else:
                verdict.packets += 1
                if stale:
                    verdict.strays.append(deed)
                if deed.windows and deed.windows[0] < last.get(deed.instance, 0):
                    verdict.rewound.append(deed)
                last[deed.instance] = deed.windows[0] if deed.windows else last.get(deed.instance, 0)
                windows[deed.instance] += deed.windows
        for name, numbers in windows.items():
            missing = set(range(min(numbers), max(numbers) + 1)) - set(numbers)
            verdict.lost += [(name, number) for number in sorted(missing)]
            verdict.again += len(numbers) - len(set(numbers))
        return verdict

    def _eras(self) -> dict[str, int]:
        """Terms that began after everything was lost belong to the time after it."""
        first: dict[str, float] = {}
        for deed in list(self.deeds):
            first.setdefault(deed.by, deed.at)
        return {by: sum(at > wiped for wiped in self.wiped) for by, at in first.items()}

"""Records every lease, run and packet of a fleet in the order in which they happened, and judges it."""

from __future__ import annotations

import json
import socket
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import Any

SINKS = 2
"""Of each agent."""
_LATE = 30.0
_AROUND = 10.0


@dataclass(frozen=True, slots=True)
class Deed:
    """Something an agent did as the owner of an instance.

    Attributes:
        what: `got`: a lease was granted; `back`: it was taken back; `run`: a run began; `sent`: a packet left.
        instance: which.
        by: agent, process and term.
        token: of the lease; 0 in a child process, which knows only how long it lasts.
        windows: the closed windows in the packet.
        at: seconds on the clock that all processes of the machine share.
        wall: the agent's own clock.
        held: whether the lease held at that moment.
        left: seconds of the term.
        sink: which of the agent's sinks sent it.
    """

    what: str
    instance: str
    by: str
    token: int
    windows: tuple[int, ...]
    at: float
    wall: float
    held: bool
    left: float
    sink: str


@dataclass
class Verdict:
    """What came out.

    Attributes:
        begun: runs that began without the lease, or although another had got the instance.
        overlaps: leases that were granted while another's went on.
        longest: seconds that any term had left at any time.
        strays: packets that were sent without the term, or although another had got the instance.
        lost: windows that one of the sinks never sent.
        again: packets with windows that had been sent before, always with the same value and time.
        doubled: those of them after an owner whose term went on: it had time to hand over what it had sent.
        rewound: packets that went back further than to where what the slowest sink may have had in hand began, which
            are two packets: it takes all that waits, and settles it together.
        runs: how many runs there were.
        packets: how many packets.
        moves: how often an instance changed its owner.
    """

    begun: list[Deed] = field(default_factory=list)
    strays: list[Deed] = field(default_factory=list)
    overlaps: list[Deed] = field(default_factory=list)
    longest: float = 0.0
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
        self._reached: dict[str, dict[str, int]] = defaultdict(dict)
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
                by_sink = self._reached[deed.instance]
                by_sink[deed.sink] = max(deed.windows[-1], by_sink.get(deed.sink, 0))
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
        """The instances whose windows both sinks sent up to then, on the clock that all processes share."""
        reached = {name: sorted(by_sink.copy().values()) for name, by_sink in self._reached.copy().items()}
        return {name for name, windows in reached.items() if len(windows) == SINKS and windows[0] >= int(at * 10)}

    def gaps(self, since: float = 0.0) -> dict[str, float]:
        """The longest time between two runs of each instance."""
        times: dict[str, list[float]] = defaultdict(list)
        for deed in self.runs(since):
            times[deed.instance].append(deed.at)
        return {name: max((b - a for a, b in pairwise(sorted(some))), default=0.0) for name, some in times.items()}

    def judge(self) -> Verdict:
        """Look at everything so far. The order of the tokens is the law; who has lost everything begins a new era."""
        verdict = Verdict()
        deeds = list(self.deeds)
        self._judge_owners(deeds, verdict)
        self._judge_packets(deeds, verdict)
        return verdict

    def _judge_owners(self, deeds: list[Deed], verdict: Verdict) -> None:
        """Who may do something: whoever got the lease last, from then on and not before the one before was through."""
        eras = self._eras()
        newest: dict[str, tuple[int, int]] = {}
        owner: dict[str, str] = {}
        until: dict[str, float] = defaultdict(float)
        given_up: set[str] = set()
        for deed in deeds:
            until[deed.by] = max(until[deed.by], deed.at + deed.left)
            verdict.longest = max(verdict.longest, deed.left)
            verdict.runs += deed.what == "run"
            verdict.packets += deed.what == "sent"
            rank, known, last = (eras[deed.by], deed.token), newest.get(deed.instance), owner.get(deed.instance, "")
            stale = deed.token > 0 and known is not None and (rank < known or (rank == known and last != deed.by))
            if deed.what == "run" and (stale or not deed.held):
                verdict.begun.append(deed)
            elif deed.what == "sent" and (stale or not deed.left):
                verdict.strays.append(deed)
            elif deed.what == "back" and last == deed.by:
                given_up.add(deed.instance)
            elif (
                deed.what == "got" and deed.held
            ):  # else it heard of it when its term was over: that one allows nothing
                if stale or (deed.instance not in given_up and last != deed.by and deed.at < until.get(last, 0.0)):
                    verdict.overlaps.append(deed)
                given_up.discard(deed.instance)
                newest[deed.instance], owner[deed.instance] = rank, deed.by
                verdict.moves += 1

    def _judge_packets(self, deeds: list[Deed], verdict: Verdict) -> None:
        """What each sink sent: everything, and again only what a crash came between.

        A stray packet is judged as that, and moves nothing: the owner knows nothing of it, and sends what is its own.
        """
        strays = set(map(id, verdict.strays))
        last: dict[tuple[str, str], Deed] = {}
        active: dict[str, float] = {}
        sources: list[tuple[Deed, Deed]] = []
        sent: dict[tuple[str, str], set[int]] = defaultdict(set)
        in_hand: dict[tuple[str, str], int] = {}
        for deed in deeds:
            if deed.left:
                active[deed.by] = deed.at
            if not deed.windows or id(deed) in strays:
                continue
            way = deed.instance, deed.sink
            before = last.get(way)
            reached = [start for (instance, _), start in in_hand.items() if instance == deed.instance]
            if before is not None and deed.windows[0] < min(reached):
                verdict.rewound.append(deed)
            in_hand[way] = before.windows[0] if before is not None else deed.windows[0]
            if before is not None and not sent[way].isdisjoint(deed.windows):
                sources.append((deed, before))
            last[way] = deed
            sent[way].update(deed.windows)
        for (name, _), numbers in sent.items():
            missing = set(range(min(numbers), max(numbers) + 1)) - numbers
            verdict.lost += [(name, number) for number in sorted(missing)]
        verdict.again = [deed for deed, _ in sources]
        verdict.doubled = [deed for deed, before in sources if active.get(before.by, 0.0) > deed.at]

    def story(self, lost: list[tuple[str, int]]) -> str:
        """What happened around the first lost window, one deed a line; empty where none was lost."""
        if not lost:
            return ""
        name, number = lost[0]
        near = [one for one in list(self.deeds) if one.instance == name and abs(one.at - number / 10) < _AROUND]
        lines = (
            f"{one.at:.2f} {one.what} {one.by} {one.token} {one.sink} {one.windows[:1]}-{one.windows[-1:]}"
            for one in near
        )
        return "\n".join((f"{len(lost)} lost, the first is {number} of {name}", *lines))

    def _eras(self) -> dict[str, int]:
        """Terms that began after everything was lost belong to the time after it."""
        first: dict[str, float] = {}
        for deed in list(self.deeds):
            first.setdefault(deed.by, deed.at)
        return {by: sum(at > wiped for wiped in self.wiped) for by, at in first.items()}

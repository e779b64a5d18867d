"""The fleet's protocol in a world without real time: seeded histories of everything that goes wrong, and a judge.

True time belongs to the world; each process has a clock with an offset and a rate of its own. Requests, answers and
hints travel, get lost or come late; processes are stopped, suspended, killed; the engine is lost, empties itself or
goes back to an older copy. The judge knows true time and sees everything at once, which nobody in the world does.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import msgspec

from vedette import EngineConflict, EngineRecord, EngineUnavailable
from vedette.fleet.participant import Participant
from vedette.fleet.records import CLAIMS, MEMBERS, Catalogue, Member, Mode
from vedette.fleet.requests import Get, Read, Request, Write
from vedette.fleet.roster import elect
from vedette.fleet.tenure import Tenure
from vedette.lease import Lease

TTL = 12.0
"""The longest of any agent."""
SILENCE = 1 / 3
"""How long an engine's client waits for an answer, in shares of its agent's ttl."""


class Violation(AssertionError):
    """What must never happen did."""


@dataclass
class Fences:
    """What the world does for the protocol. A test takes one away and must be found out."""

    revisions_die: bool = True
    """Revisions of before are void once the engine lost writes that it had answered."""
    guards: bool = True
    removals_compare: bool = True
    writes_compare: bool = True
    clock_counts_suspends: bool = True


class Store:
    """The engine: linearizable, and forgetful if it is made to be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.up = True
        self.records: dict[str, tuple[str, int]] = {}
        self.copies: list[tuple[float, dict[str, tuple[str, int]]]] = []
        self.forgetful: Callable[[], None] | None = None
        """What befalls it soon after the next change of an owner."""
        self._epoch = 0
        self._revisions = count(1)

    def answer(self, request: Request) -> Any:
        """What the contract says; failures are returned."""
        if isinstance(request, Read):
            return [self._record(key) for key in sorted(self.records) if key.startswith(request.prefix)]
        if isinstance(request, Get):
            return self._record(request.key) if request.key in self.records else None
        if isinstance(request, Write):
            return self._write(request)
        if request.key in self.records:
            if self.world.fences.removals_compare and self._revision(request.key) != request.revision:
                return EngineConflict(request.key)
            del self.records[request.key]
            self._changed()
        return None

    def forget(self, copy: Mapping[str, tuple[str, int]]) -> None:
        """Come back with what there was before; the judge does not hold what is lost against anyone."""
        self.records = dict(copy)
        self._epoch += 1
        self.world.judge.forgotten(self)

    def state(self, instance: str) -> dict[str, Any]:
        """What is kept for an instance."""
        kept = self.records.get(f"claims/{instance}")
        return dict(msgspec.json.decode(kept[0])["state"]) if kept else {}

    def _write(self, request: Write) -> str | EngineConflict:
        guard = request.guard
        if guard is not None and self.world.fences.guards and self._revision(guard.key) != guard.revision:
            return EngineConflict(guard.key)
        if request.revision != self._revision(request.key) and (
            self.world.fences.writes_compare or not request.key.startswith("claims/") or request.revision is None
        ):
            return EngineConflict(request.key)
        before = self.records.get(request.key)
        if (
            before is not None and before[0] == request.value
        ):  # as in Kubernetes: nothing changed, not even the revision
            return str(self._revision(request.key))
        if guard is not None and self.forgetful is not None:
            self.world.at(self.world.random.uniform(0, 0.03) * TTL, self.forgetful)
            self.forgetful = None
        self.records[request.key] = (request.value, next(self._revisions))
        self.world.judge.written(request, before[0] if before else None)
        self._changed(before is None or _gist(before[0]) != _gist(request.value))
        return str(self._revision(request.key))

    def _changed(self, gist: bool = True) -> None:
        self.copies.append((self.world.now, dict(self.records)))
        if gist:
            self.world.spread_news()

    def _revision(self, key: str) -> str | None:
        kept = self.records.get(key)
        if kept is None:
            return None
        return f"{kept[1]}@{self._epoch}" if self.world.fences.revisions_die else str(kept[1])

    def _record(self, key: str) -> EngineRecord:
        return EngineRecord(key, self.records[key][0], self._revision(key) or "")


def _gist(text: str) -> dict[str, Any]:
    return {name: value for name, value in msgspec.json.decode(text).items() if name not in ("seq", "state", "token")}


class Judge:
    """Watches all."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.grants = 0
        self.runs = 0
        self.saves = 0
        self._begun: dict[str, int] = defaultdict(int)
        self._kept: set[tuple[str, int]] = set()
        self._granted_at: dict[str, float] = defaultdict(float)
        self._written_at: dict[tuple[str, int], float] = {}

    def granted(self, node: Node, lease: Lease) -> None:
        """Leases begin by answers and end by time: no two hold unless they do at this moment."""
        self.grants += 1
        if not lease.held:
            return
        self._granted_at[lease.instance] = self.world.now
        if lease.token <= node.highest[lease.instance]:
            raise Violation(f"{lease.instance}: {node.identity} got {lease.token} after {node.highest[lease.instance]}")
        node.highest[lease.instance] = lease.token
        if lease.token <= (known := node.exceeds.get(lease.instance, 0)):
            raise Violation(f"{lease.instance}: {node.identity} got {lease.token}, and knew of {known} when it asked")
        for other in self.world.holders(lease.instance):
            if other is not node:
                raise Violation(f"{lease.instance}: both {other.identity} and {node.identity} hold it")
        for other in self.world.nodes:
            if other is not node and lease.instance in other.given and other.given[lease.instance].lasts:
                raise Violation(f"{lease.instance}: {other.identity} may send what {node.identity} collects anew")

    def taken_back(self, node: Node, lease: Lease) -> None:
        """A lease ended: the term did, or another one is first, or the engine has another owner."""
        part = node.part
        if part is None or part.leaving or not lease.term.current or lease.instance not in part.tenures:
            return
        if self.forgiven > self.world.now - TTL:  # what it read may have been true between two losses
            return
        kept = self.world.store.records.get(f"{CLAIMS}{lease.instance}")
        claim = msgspec.json.decode(kept[0]) if kept else {"owner": "", "token": 0}
        if part.tenures[lease.instance].mine and (claim["owner"], claim["token"]) == (node.id, lease.token):
            raise Violation(f"{lease.instance}: {node.identity} gave it up for nothing")

    def ran(self, node: Node, lease: Lease) -> None:
        """A run began."""
        self.runs += 1
        if node.heard < self.world.now - node.ttl:
            raise Violation(f"{lease.instance}: {node.identity} runs it and has not heard of the others for a ttl")
        for other in self.world.nodes:
            if other is not node and other.hands_over(lease.instance) and self.forgiven < self.world.now - 2 * TTL:
                raise Violation(f"{lease.instance}: {node.identity} began while a run of {other.identity} went on")
        if (
            self._written_at[lease.instance, lease.token] <= self.forgiven
        ):  # it does not know yet what the engine forgot
            return
        if lease.token < self._begun[lease.instance]:
            raise Violation(f"{lease.instance}: began with {lease.token} after {self._begun[lease.instance]}")
        self._begun[lease.instance] = lease.token

    def written(self, request: Write, before: str | None) -> None:
        """The engine took a write: of a claim, it must contain what was there."""
        if not request.key.startswith("claims/"):
            return
        instance = request.key.removeprefix("claims/")
        claim = msgspec.json.decode(request.value)
        self._written_at[instance, claim["token"]] = self.world.now
        last = msgspec.json.decode(before) if before else {"token": 0, "state": {}}
        if claim["token"] < last["token"]:
            raise Violation(f"{instance}: token {claim['token']} after {last['token']}")
        if claim["state"].get("n", 0) < last["state"].get("n", 0):
            raise Violation(f"{instance}: state {claim['state']} replaced {last['state']}")

    def saved(self, instance: str, value: int) -> None:
        """An agent was told, now or while it was stopped, that the engine has this value."""
        self.saves += 1
        if (instance, value) in self._kept:
            raise Violation(f"{instance}: {value} was kept twice")
        if self.world.store.state(instance).get("n", 0) < value:
            raise Violation(f"{instance}: {value} is lost")
        self._kept.add((instance, value))

    def forgotten(self, store: Store) -> None:
        """The engine lost what it lost."""
        self._begun.clear()
        self.forgiven = self.world.now
        self._kept = {(one, value) for one, value in self._kept if value <= store.state(one).get("n", 0)}

    forgiven = float("-inf")
    """When the engine forgot last."""

    def settled(self) -> None:
        """Two ttl after the last disturbance: everything that anyone has was run by somebody since."""
        for instance in self.world.wanted():
            if not self.world.holders(instance) and self._granted_at[instance] < self.world.last_trouble:
                raise Violation(f"{instance}: nobody has it 2 ttl later")

    def at_rest(self) -> None:
        """Later still: everything is run by the one who shall."""
        store = self.world.store
        members = self.world.members()
        catalogues = {
            key.removeprefix("catalogues/"): Catalogue.parse(kept[0])
            for key, kept in store.records.items()
            if key.startswith("catalogues/")
        }
        for instance in self.world.wanted():
            holders = [node.id for node in self.world.holders(instance)]
            if len(holders) != 1:
                raise Violation(f"{instance}: {holders} hold it at the end")
            if all(one.catalogue in catalogues for one in members) and holders != [
                elect(instance, members, catalogues)
            ]:
                raise Violation(f"{instance}: {holders} hold it at the end, and are not first")


class Node:
    """A machine with an agent's process, or without one."""

    def __init__(self, world: World, identity: str, wanted: Mapping[str, Mode], ttl: float) -> None:
        self.world = world
        self.identity = identity
        self.ttl = ttl
        self.wanted = dict(wanted)
        self.part: Participant | None = None
        self.leases: dict[str, Lease] = {}
        self.given: dict[str, Lease] = {}
        """The last one of each instance, taken back or not: what was collected under it may be sent while it lasts."""
        self.frozen = False
        self.cut: set[str] = set()
        """Which ways are cut: `there`, `back`."""
        self._values: dict[str, int] = {}
        self._running: dict[str, Lease] = {}
        self._halting: dict[str, float] = {}
        self.highest: dict[str, int] = defaultdict(int)
        """Tokens of the leases that this process had."""
        self.brought: dict[str, int] = {}
        """Those that it had when it joined last."""
        self.exceeds: dict[str, int] = {}
        """Tokens that those brought whom it knew when it asked for the instance."""
        self._joined_as = ""
        self.heard = 0.0
        """When it read who the others are, and knew it."""
        self.late: set[str] = set()
        """Prefixes of the keys whose requests are answered late."""
        self.deaf = False
        """It never hears who the others are; all else it does."""
        self.last_beat = ""
        """`late`: the answer to its next beat's write is; `good`: once the others are read it is cut off."""
        self.regrets = False
        """The answer to its next claim is lost, and before it notices it does not want the instance any more."""
        self.held_back = False
        """Its next claim reaches the engine late, and before that it does not want the instance any more."""
        self.dice = random.Random(f"{world.seed} {identity}")
        self._rate = world.random.uniform(0.99, 1.01)
        self._offset = world.random.uniform(0, 1e6)
        self._asleep = 0.0
        self._asleep_since: float | None = None
        self._waiting: list[Callable[[], None]] = []
        self._life = count()
        self.life = 0
        self._wake = 0

    @property
    def id(self) -> str:
        return self.part.seat.id if self.part else ""

    @property
    def roster(self) -> Container[str]:
        """Ids of the members whose records it has read."""
        return self.part.roster if self.part else ()

    def clock(self) -> float:
        """CLOCK_BOOTTIME, or a clock that stands still in a suspend."""
        asleep = 0.0
        if not self.world.fences.clock_counts_suspends:
            asleep = self._asleep + (self.world.now - self._asleep_since if self._asleep_since is not None else 0.0)
        return self._offset + self._rate * (self.world.now - asleep)

    def start(self) -> None:
        """A new process."""
        if self.part is not None:
            return
        self.world.disturbed()
        self.life = self.world.lives()
        self.frozen, self._waiting = False, []
        self.leases, self._values, self._running, self._halting = {}, {}, {}, {}
        self.highest.clear()
        self.part = Participant(
            self.identity, self.ttl, self.clock, lambda: f"{self.world.random.getrandbits(64):016x}"
        )
        self.part.want(self.wanted)
        self.step()

    def kill(self) -> None:
        """SIGKILL; what it sent is under way still."""
        self.world.disturbed()
        self.part, self.leases, self.given, self.life = None, {}, {}, 0

    def freeze(self, suspend: bool) -> None:
        """SIGSTOP, or a suspend of the machine: time goes on."""
        self.frozen = True
        if suspend and self._asleep_since is None:
            self._asleep_since = self.world.now

    def thaw(self) -> None:
        """Everything that came meanwhile is dealt with at once, in any order."""
        self.world.disturbed()
        self.frozen = False
        if self._asleep_since is not None:
            self._asleep += self.world.now - self._asleep_since
            self._asleep_since = None
        waiting, self._waiting = self._waiting, []
        self.world.random.shuffle(waiting)
        for happen in waiting:
            happen()
        self.step()

    def when_awake(self, life: int, happen: Callable[[], None]) -> None:
        """In the process that it is meant for, if it lives; when it runs."""
        if self.part is None or life != self.life:
            return
        if self.frozen:
            self._waiting.append(happen)
        else:
            happen()

    def step(self) -> None:
        """What a driver does: ask what is to be asked, tell what is held, come again when there is more to do."""
        if self.part is None or self.frozen:
            return
        for request in self.part.requests():
            self._note_tokens(request)
            self.world.send(self, request)
        if self.id != self._joined_as:
            self._joined_as, self.brought = self.id, dict(self.highest)
        if self.part.left:
            self.kill()
            return
        self._note(self.part.held)
        self._wake += 1
        wait = max(0.001, (self.part.due - self.clock()) / self._rate)
        self.world.at(wait, self._woken, self.life, self._wake)

    def _note_tokens(self, request: Request) -> None:
        """Also those of members that the engine has forgotten meanwhile."""
        if isinstance(request, Write) and request.key.startswith(CLAIMS) and request.guard is not None:
            instance, known = request.key.removeprefix(CLAIMS), self.roster
            brought = [one.brought.get(instance, 0) for one in self.world.nodes if one.part and one.id in known]
            self.exceeds[instance] = max(brought, default=0)

    def reload(self, wanted: Mapping[str, Mode]) -> None:
        """The configuration has others."""
        self.wanted = dict(wanted)
        if self.part is not None:
            self.when_awake(self.life, lambda: self.part and self.part.want(self.wanted))
            self.step()

    def drop(self, instance: str) -> None:
        """The configuration has it no more."""
        self.reload({one: mode for one, mode in self.wanted.items() if one != instance})

    def leave(self) -> None:
        """SIGTERM."""
        if self.part is not None:
            self.part.leave()
            self.step()

    def run_something(self) -> None:
        """An instance is due: a run begins under its lease, and commits how often it ran once it has ended."""
        if idle := sorted(self.leases.keys() - self._running.keys()):
            self._run(self.world.random.choice(idle))

    def hands_over(self, instance: str) -> bool:
        """Whether a run whose lease was taken back is being halted: in a term that goes on, and without having hung."""
        lease = self._running.get(instance)
        return (
            lease is not None
            and not self.frozen
            and lease.term.current
            and self.world.now < self._halting.get(instance, 0.0) + 0.9 * self.ttl
        )

    def _run(self, instance: str) -> None:
        lease = self.leases.get(instance)
        if self.part is None or self.frozen or lease is None or instance in self._running:
            return
        if lease.held:
            self.world.judge.ran(self, lease)
            self._running[instance] = lease
            self.world.at(
                self.world.random.expovariate(5 / TTL),
                self.when_awake,
                self.life,
                lambda: self._ended(instance, lease),
            )

    def _ended(self, instance: str, lease: Lease) -> None:
        if self.part is None or self._running.get(instance) is not lease:
            return
        del self._running[instance]
        value = self._values[instance] = self._values[instance] + 1
        forgiven = self.world.judge.forgiven

        def done(kept: bool) -> None:
            if kept and forgiven == self.world.judge.forgiven:
                self.world.judge.saved(instance, value)

        self.part.save(instance, {"n": value}, done)
        self.step()

    def _note(self, held: Mapping[str, Tenure]) -> None:
        now = {instance: tenure.lease for instance, tenure in held.items() if tenure.lease is not None}
        before, self.leases = self.leases, now
        for instance, lease in before.items():
            if now.get(instance) is not lease:
                if lease.held:
                    raise Violation(f"{instance}: {self.identity} was not told, and holds it still")
                self.world.judge.taken_back(self, lease)
                self._halting[instance] = self.world.now
                self._halt(instance, lease)
        for instance, lease in now.items():
            if before.get(instance) is not lease:
                self._running.pop(instance, None)
                self._halting.pop(instance, None)
                self._values[instance] = held[instance].inherited.get("n", 0)
                self.given[instance] = lease
                self.world.judge.granted(self, lease)
                if self.world.random.random() < 0.5:
                    self.world.at(0.001, self.when_awake, self.life, partial(self._run, instance))

    def _halt(self, instance: str, lease: Lease) -> None:
        if not self.world.rough or self.world.random.random() < 0.9:
            wait = self.world.random.uniform(0, TTL / 6)
        else:  # it hangs; when it ends the instance may be here again, under another lease
            wait = self.dice.uniform(1, 2.5) * TTL
        self.world.at(wait, self.when_awake, self.life, lambda: self._halted(instance, lease))

    def _halted(self, instance: str, lease: Lease) -> None:
        if self.part is not None:
            if self._running.get(instance) is lease:
                del self._running[instance]
            self.part.stopped(instance, lease.token)
            self.step()

    def _woken(self, life: int, wake: int) -> None:
        if wake == self._wake:
            self.when_awake(life, self.step)


@dataclass
class World:
    """Time, the network, and what happens in one history.

    Args:
        seed: the same one, the same history.
        fences: what the world does for the protocol.
    """

    seed: int
    fences: Fences = field(default_factory=Fences)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = 0.0
        self.rough = True
        """Requests and answers get lost and come late."""
        self.last_trouble = 0.0
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = count()
        self._lives = count(1)
        self._hinting = self.random.random() < 0.7
        self._loss = self.random.choice((0.0, 0.01, 0.05))
        self._late = self.random.choice((0.0, 0.02, 0.1))
        self.judge = Judge(self)
        self.store = Store(self)
        self.nodes: list[Node] = []

    def lives(self) -> int:
        return next(self._lives)

    def members(self) -> list[Member]:
        return [
            Member.parse(key, value, TTL)
            for key, (value, _) in self.store.records.items()
            if key.startswith("members/")
        ]

    def wanted(self) -> set[str]:
        """What anyone alive has."""
        return {instance for node in self.nodes if node.part is not None for instance in node.wanted}

    def holders(self, instance: str) -> list[Node]:
        """Who may run it at this moment."""
        return [node for node in self.nodes if (lease := node.leases.get(instance)) is not None and lease.held]

    def disturbed(self) -> None:
        """Something happened that the fleet has to get over."""
        self.last_trouble = max(self.last_trouble, self.now)

    def at(self, wait: float, happen: Callable[..., object], *args: Any) -> None:
        """Later."""
        heapq.heappush(self._events, (self.now + wait, next(self._order), happen, args))

    def pass_time(self, until: float) -> None:
        """Let happen what happens until then."""
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, happen, args = heapq.heappop(events)
            happen(*args)
        self.now = until

    # The network

    def send(self, node: Node, request: Request) -> None:
        """A request leaves; after some silence the client gives up waiting."""
        life, open_ = node.life, [True]

        def answered(reply: Any) -> None:
            if open_[0]:
                open_[0] = False
                self._heard(node, request, reply)
                request.answer(reply)
                node.step()

        self.at(SILENCE * node.ttl, self._give_up, node, life, open_, answered)
        if node.held_back and self.rough and isinstance(request, Write) and request.guard is not None:
            node.held_back = False
            late = self.random.uniform(0.6, 1.5) * TTL
            self.last_trouble = max(self.last_trouble, self.now + late)
            self.at(late, self._arrive, node, life, request, open_, answered)
            self.at(SILENCE * node.ttl / 2, node.drop, request.key.removeprefix(CLAIMS))
        elif not self._lost(node, "there") and not (node.deaf and _is_roll_call(request)):
            self.at(self._travel(isinstance(request, Read | Get)), self._arrive, node, life, request, open_, answered)

    def _give_up(self, node: Node, life: int, open_: list[bool], answered: Callable[[Any], None]) -> None:
        if open_[0]:
            node.when_awake(life, lambda: answered(EngineUnavailable("silence")))

    def _arrive(
        self, node: Node, life: int, request: Request, open_: list[bool], answered: Callable[[Any], None]
    ) -> None:
        if not self.store.up:
            return
        reply = self.store.answer(request)
        if self._regretted(node, request, reply):
            return
        if open_[0] and not self._lost(node, "back"):
            self.at(self._return(node, request), self._deliver, node, life, answered, reply)

    def _regretted(self, node: Node, request: Request, reply: Any) -> bool:
        claiming = isinstance(request, Write) and request.guard is not None and isinstance(reply, str)
        if not (claiming and node.regrets and self.rough):
            return False
        node.regrets = False
        node.drop(request.key.removeprefix(CLAIMS))
        return True

    def _heard(self, node: Node, request: Request, reply: Any) -> None:
        if _is_roll_call(request) and isinstance(reply, list):
            node.heard = self.now
            if node.last_beat == "good":
                node.last_beat = ""
                node.cut |= {"there", "back"}
                self.at(self.random.uniform(0.9, 2.5) * TTL, node.cut.clear)

    def _return(self, node: Node, request: Request) -> float:
        """How long an answer takes."""
        key = request.prefix if isinstance(request, Read) else request.key
        if self.rough and any(key.startswith(one) for one in node.late):
            return self.random.uniform(0.1, 0.3) * node.ttl
        if self.rough and node.last_beat == "late" and isinstance(request, Write) and key == f"{MEMBERS}{node.id}":
            node.last_beat = "good"
            return self.random.uniform(0.25, 0.32) * node.ttl
        return self._travel(True)

    def _deliver(self, node: Node, life: int, answered: Callable[[Any], None], reply: Any) -> None:
        node.when_awake(life, lambda: answered(reply))

    def _lost(self, node: Node, way: str) -> bool:
        return way in node.cut or (self.rough and self.random.random() < self._loss)

    def _travel(self, punctual: bool) -> float:
        """Writes may be held back for long by a network, and made after all."""
        if self.rough and self.random.random() < self._late:
            late = self.random.uniform(0.05, 0.4 if punctual else 2.5) * TTL
            self.last_trouble = max(self.last_trouble, self.now + late)
            return late
        return self.random.uniform(0.001, 0.015) * TTL

    def spread_news(self) -> None:
        """Hints, to those whom they reach."""
        for node in self.nodes:
            if self._hinting and node.part is not None and not node.cut and self.random.random() < 0.9:
                self.at(self._travel(True), node.when_awake, node.life, lambda node=node: self._hint(node))

    def _hint(self, node: Node) -> None:
        if node.part is not None:
            node.part.hint()
            node.step()


def _is_roll_call(request: Request) -> bool:
    return isinstance(request, Read) and request.prefix == MEMBERS


class History:
    """One life of a fleet: some agents, some instances, trouble for a while, and then none."""

    def __init__(self, seed: int, fences: Fences, kinds: Sequence[str] = ()) -> None:
        self.world = world = World(seed, fences)
        self.random = world.random
        instances = [f"check/{n}" for n in range(self.random.randint(2, 5))]
        self.all: dict[str, Mode] = {one: self.random.choice(("hash", "hash", "leader")) for one in instances}
        nodes = range(self.random.randint(2, 4))
        ttls = random.Random(f"ttl {seed}")
        shares = (0.4, 0.6, 1.0) if ttls.random() < 0.5 else (1.0,)
        world.nodes += [Node(world, f"node{n}", self.all, ttls.choice(shares) * TTL) for n in nodes]
        self.pace = 6.0 if kinds else 2.5
        self.kinds = kinds or self.random.sample(sorted(self.troubles), self.random.randint(1, 5))

    @property
    def troubles(self) -> dict[str, Callable[[Node], None]]:
        return {
            "kill": Node.kill,
            "start": Node.start,
            "stop": lambda node: self._freeze(node, suspend=False),
            "suspend": lambda node: self._freeze(node, suspend=True),
            "cut": self._cut,
            "leave": Node.leave,
            "reload": self._reload,
            "empty behind its back": self._empty_behind,
            "cut after a late answer": lambda node: setattr(node, "last_beat", "late"),
            "unread": self._deafen,
            "late answers": self._slow,
            "regret": lambda node: setattr(node, "regrets", True),
            "held back": lambda node: setattr(node, "held_back", True),
            "lose": lambda _: self._lose(),
            "empty": lambda _: self.world.store.forget({}),
            "go back": lambda _: self._go_back(self.random.choice((0.02, 0.2, 2)) * self.random.random() * TTL),
            "empty after a claim": lambda _: self._after_a_claim(lambda: self.world.store.forget({})),
            "go back after a claim": lambda _: self._after_a_claim(lambda: self._go_back(0.03 * TTL)),
        }

    def run(self) -> Judge:
        """Live through it.

        Raises:
            Violation: the protocol failed.
        """
        world = self.world
        for node in world.nodes:
            world.at(self.random.uniform(0, TTL / 2), node.start)
        self._work(self.random.uniform(4, 9) * TTL)
        world.at(1.8 * TTL, self._trouble)
        world.pass_time(self.random.uniform(5, 9) * TTL)
        self._calm()
        for shares, judgement in ((2.0, world.judge.settled), (3.5, world.judge.at_rest)):
            while world.now < world.last_trouble + shares * TTL:
                world.pass_time(world.last_trouble + shares * TTL)
            judgement()
        return world.judge

    def _work(self, until: float) -> None:
        for node in self.world.nodes:
            node.run_something()
        self.world.at(self.random.expovariate(4 / TTL), self._work, until)

    def _trouble(self) -> None:
        if not self.world.rough:
            return
        kind = self.random.choice(self.kinds)
        self.troubles[kind](self.random.choice(self.world.nodes))
        if kind in ("kill", "leave") and self.random.random() < 0.7:
            node = self.random.choice(self.world.nodes)
            self.world.at(self.random.expovariate(2 / TTL), node.start)
        self.world.at(self.random.expovariate(self.pace / TTL), self._trouble)

    def _calm(self) -> None:
        """Everything is as it should be again; who is dead may stay so."""
        world = self.world
        world.rough, world.store.up, world.store.forgetful = False, True, None
        for node in world.nodes:
            node.cut.clear()
            node.late.clear()
            node.deaf, node.regrets, node.held_back, node.last_beat = False, False, False, ""
            if node.frozen:
                node.thaw()
        if not any(node.part for node in world.nodes) or self.random.random() < 0.5:
            self.random.choice(world.nodes).start()
        world.disturbed()

    def _freeze(self, node: Node, *, suspend: bool) -> None:
        if node.part is not None and not node.frozen:
            node.freeze(suspend)
            life = node.life
            self.world.at(self.random.uniform(0.05, 3) * TTL, lambda: node.frozen and life == node.life and node.thaw())

    def _cut(self, node: Node) -> None:
        node.cut |= set(self.random.choice((["there"], ["back"], ["there", "back"])))
        self.world.at(self.random.uniform(0.05, 2.5) * TTL, node.cut.clear)

    def _empty_behind(self, node: Node) -> None:
        """The engine empties itself while this one is cut off: all others join anew, and cannot read of it."""
        node.cut |= {"there", "back"}
        self.world.at(self.random.uniform(0, 0.1) * TTL, self.world.store.forget, {})
        self.world.at(self.random.uniform(0.5, 1.5) * TTL, node.cut.clear)

    def _deafen(self, node: Node) -> None:
        node.deaf = True
        self.world.at(self.random.uniform(0.5, 3) * TTL, setattr, node, "deaf", False)

    def _slow(self, node: Node) -> None:
        node.late |= set(self.random.choice(([MEMBERS], [CLAIMS], [MEMBERS, CLAIMS])))
        self.world.at(self.random.uniform(0.2, 3) * TTL, node.late.clear)

    def _reload(self, node: Node) -> None:
        node.reload({one: mode for one, mode in self.all.items() if self.random.random() < 0.7})

    def _lose(self) -> None:
        self.world.store.up = False
        self.world.at(self.random.uniform(0.05, 2) * TTL, lambda: setattr(self.world.store, "up", True))

    def _go_back(self, age: float) -> None:
        store = self.world.store
        copies = [copy for made, copy in store.copies if made <= self.world.now - age]
        store.forget(copies[-1] if copies else {})

    def _after_a_claim(self, forget: Callable[[], None]) -> None:
        self.world.store.forgetful = forget


def live(seed: int, fences: Fences | None = None, kinds: Sequence[str] = ()) -> Judge:
    """One history, of any troubles or of some kinds."""
    return History(seed, fences or Fences(), kinds).run()

"""The protocol in seeded histories of everything that goes wrong; and that each fence is needed."""

from __future__ import annotations

import inspect
import sys
import textwrap
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from fleet.simulation import Fences, History, Violation, live
from vedette.engine import EngineRecord
from vedette.fleet import seat
from vedette.fleet.roster import Roster, Sighting
from vedette.fleet.seat import Seat
from vedette.fleet.tenure import Tenure
from vedette.lease import Term


def test_no_history_violates_anything() -> None:
    judges = [live(seed) for seed in range(40)]
    assert sum(judge.grants for judge in judges) > 300
    assert sum(judge.saves for judge in judges) > 600


@pytest.mark.soak
def test_ten_thousand_histories_violate_nothing() -> None:
    assert sum(live(seed).grants for seed in range(10_000)) > 50_000


def test_a_seed_is_a_history() -> None:
    first, second = History(7, Fences()), History(7, Fences())
    first.run()
    second.run()
    assert first.world.store.records == second.world.store.records
    assert (first.world.now, first.world.judge.runs) == (second.world.now, second.world.judge.runs)


def _resume(self: Seat, own: EngineRecord | None, now: float) -> bool:
    """An engine that has less than it answered for is taken as it is."""
    if own is None:
        return self._revision is None
    if own.revision != self._revision:
        self._keep(own.revision, own.value, max(self._known_seq, msgspec.json.decode(own.value)["seq"]), now)
    return True


def without(kind: type, method: str, old: str, new: str) -> AbstractContextManager[Any]:
    """A method in which something is another."""
    source = textwrap.dedent(inspect.getsource(getattr(kind, method)))
    assert old in source, (method, old)
    names = dict(vars(sys.modules[kind.__module__]))
    exec("from __future__ import annotations\n" + source.replace(old, new), names)
    return patch.object(kind, method, names[method])


class Mutation:
    """A fence that is taken away.

    Args:
        change: of the protocol.
        kinds: of troubles that need the fence.
        near: a seed from which it does not take long.
        fences: what the world does not do.
    """

    def __init__(self, change: AbstractContextManager[Any] | None, kinds: str, near: int = 0, **fences: bool) -> None:
        self.near = near
        self.change = change or nullcontext()
        self.kinds = kinds.split(", ")
        self.fences = fences


MUTATIONS = {
    "a joiner does not wait": Mutation(
        patch.object(Seat, "_waited", lambda self, _: self._present_since is not None), "empty, start, stop"
    ),
    "a term does not run out": Mutation(
        patch.object(Term, "current", property(lambda self: not self._ended)), "cut, stop"
    ),
    "a term is longer than others' patience": Mutation(patch.object(seat, "TERM", 1.3), "cut, stop"),
    "others have too little patience": Mutation(
        patch.object(Sighting, "expires", property(lambda self: self.since + self.member.ttl * 0.6)), "stop, cut"
    ),
    "a term lasts from after its beat was answered": Mutation(
        without(Seat, "_wrote", "self._pledged = sent", "self._pledged = now"), "cut after a late answer", near=15
    ),
    "a write alone is a good beat": Mutation(
        without(Seat, "_wrote", "self._pledged = sent", "self._good(sent)"), "unread, start"
    ),
    "what runs still is given up": Mutation(
        without(Tenure, "assign", "self._halt_by = self._clock() + self._ttl", "self._halt_by = -inf"),
        "start, reload",
        near=8,
    ),
    "what is queued is sent after the claim was given up": Mutation(
        without(Tenure, "_write", "self._end_lease()", "pass"), "start, reload"
    ),
    "a claim that may have been made is forgotten": Mutation(
        without(Tenure, "_wrote", "self._doubt = self._doubt or claiming", "pass"), "regret, start, reload"
    ),
    "what was read before a write counts after it": Mutation(
        without(Tenure, "update", " and self._touched < asked", ""), "late answers, start, reload"
    ),
    "tokens begin anew": Mutation(
        without(Tenure, "_take", "1 + self._tally.token", "1 + self.claim.token"), "empty, start"
    ),
    "the owner is not looked at": Mutation(patch.object(Tenure, "_free", lambda *_: True), "leave, start"),
    "what the engine forgot is forgiven": Mutation(
        patch.object(Seat, "_recognised", _resume), "go back after a claim, leave, start", near=86
    ),
    "the clock stands still in a suspend": Mutation(None, "suspend, start", clock_counts_suspends=False),
    "removals do not compare": Mutation(None, "stop", near=67, removals_compare=False),
    "writes of claims do not compare": Mutation(None, "cut, stop", writes_compare=False),
    "tokens are not learnt from members": Mutation(
        without(Seat, "_read", "self._tally.token = max(", "_ = ("), "empty, kill, start, reload"
    ),
    "only the own ttl counts": Mutation(
        without(Roster, "_measure", "max((self._ttl, *self._lasting))", "self._ttl"),
        "empty behind its back, start, start, start",
        near=222,
    ),
    "the ttl of who is gone is forgotten at once": Mutation(
        without(Roster, "_measure", "{ttl: end for ttl, end in self._lasting.items() if end > now}", "{}"),
        "empty behind its back, start, start, start",
        near=119,
    ),
    "the engine's memory is not compared": Mutation(
        patch.object(EngineRecord, "memory", property(lambda _: "")),
        "go back after a claim, leave, start",
        near=23,
    ),
    "claims have no guard": Mutation(None, "empty after a claim, start, reload", near=10, guards=False),
    "revisions outlive what the engine forgot": Mutation(
        None, "go back after a claim, leave, start", near=25, revisions_die=False
    ),
}


def found(mutation: Mutation, seeds: int) -> str:
    """What the first history that needs the fence ends with; empty if none does."""
    with mutation.change:
        for seed in range(mutation.near, mutation.near + seeds):
            try:
                live(seed, Fences(**mutation.fences), mutation.kinds)
            except Violation as violation:
                return str(violation)
    return ""


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_fence_that_is_missing_is_found(name: str) -> None:
    assert found(MUTATIONS[name], seeds=300)


def test_the_troubles_that_find_mutations_do_not_find_anything_else() -> None:
    for seed, mutation in enumerate(MUTATIONS.values()):
        live(seed, kinds=mutation.kinds)


@pytest.mark.soak
def test_the_troubles_that_find_mutations_do_not_find_anything_else_in_a_thousand_histories() -> None:
    for mutation in MUTATIONS.values():
        for seed in range(1000):
            live(seed, kinds=mutation.kinds)

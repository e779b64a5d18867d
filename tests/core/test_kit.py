"""What checks and sinks share: totals into deltas and rates, and the cardinality budget."""

from __future__ import annotations

from decimal import Decimal

from vedette.kit import Budget, Deltas


def test_totals_become_deltas_and_heal_over_gaps_and_restarts() -> None:
    deltas = Deltas()
    seen = [
        deltas.delta("redis/a", "x", total, time)
        for total, time in ((10, 0.0), (13, 1.0), (20, 9.0), (4, 10.0), (6, 11.0))
    ]
    assert seen == [None, 3, 7, None, 2]
    assert deltas.delta("redis/a", "x", 99, 5.0) is None  # an older point that came late
    assert deltas.delta("redis/a", "x", 8, 12.0) == 2
    assert deltas.rate("redis/b", "x", Decimal("1.5"), 0.0) is None
    assert deltas.rate("redis/b", "x", Decimal("4.5"), 2.0) == 1.5
    assert deltas.delta("redis/b", "x", 5.0, 3.0) is None  # a float after a Decimal: a new base
    deltas.forget("redis/a")
    assert deltas.delta("redis/a", "x", 9, 13.0) is None


def test_a_budget_keeps_the_first_keys_and_counts_what_it_cuts() -> None:
    budget = Budget(2)
    budget.begin()
    assert [budget.admit(key) for key in ("a", "b", "c", "c", "d", "a")] == [True, True, False, False, False, True]
    assert budget.cut == 2
    budget.begin()
    assert [budget.admit(key) for key in ("b", "c")] == [True, False]
    budget.begin()  # nobody asked for "a" during a whole round: it made room
    assert [budget.admit(key) for key in ("b", "c")] == [True, True]
    assert budget.cut == 0

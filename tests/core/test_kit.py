"""What checks and sinks share: totals into deltas and rates, and the cardinality budget."""

from __future__ import annotations

from decimal import Decimal

from vedette.kit import Budget, Deltas, Totals


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


def test_a_total_goes_on_level_where_another_server_counts_on() -> None:
    totals = Totals()
    totals.counted_by("first server")
    assert [totals.level("commits", raw) for raw in (1000, 1010)] == [1000, 1010]
    totals.counted_by("second server")
    assert [totals.level("commits", raw) for raw in (5_000_000, 5_000_003)] == [1010, 1013]
    assert totals.level("new", 7) == 7
    totals.counted_by("first server")
    assert totals.level("commits", 1020) == 1013


def test_a_total_that_falls_goes_on_level_from_there() -> None:
    totals = Totals()
    assert [totals.level("commits", raw) for raw in (1000, 4, 9, 9, 2, 3)] == [1000, 1000, 1005, 1005, 1005, 1006]


def test_a_series_that_missed_the_change_of_server_is_level_when_it_returns() -> None:
    totals = Totals()
    totals.counted_by("a")
    assert (totals.level("x", 10), totals.level("y", 10)) == (10, 10)
    totals.counted_by("b")
    assert totals.level("x", 90) == 10
    assert (totals.level("x", 95), totals.level("y", 70)) == (15, 10)


def test_rows_of_totals_go_on_level_column_by_column() -> None:
    totals = Totals()
    totals.counted_by("a")
    assert totals.levels("t", (10, None, 0.5)) == (10, None, 0.5)
    assert totals.levels("t", (12, 7, 0.75)) == (12, 7, 0.75)
    assert totals.levels("t", (3, None, 1.0)) == (12, None, 1.0)
    assert totals.levels("t", (4, 9, 1.0)) == (13, 9, 1.0)
    totals.counted_by("b")
    assert totals.levels("t", (100, 1, 50.0)) == (13, 9, 1.0)
    assert totals.levels("t", (101, 3, 50.5)) == (14, 11, 1.5)
    assert totals.levels("other", (1,)) == (1,)


def test_a_series_not_seen_for_long_is_forgotten() -> None:
    totals = Totals()
    for run in range(3_000):
        totals.counted_by("a")
        totals.levels(("temporary", run), (run,))
        totals.level("kept", run)
    assert len(totals._series) + len(totals._older) <= 2_000 + 2
    assert totals.level("kept", 5) == 2_999

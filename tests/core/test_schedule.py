"""Due times: no drift, fixed phases, what a late wake-up and a long run skip, cron over daylight saving."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from vedette.schedule import CronTicks, IntervalTicks, OwnTicks, spread

BERLIN = ZoneInfo("Europe/Berlin")


def test_a_thousand_ticks_do_not_drift() -> None:
    ticks = IntervalTicks("redis/a", 7.3, now=50.0, wall=1_000_000.0)
    first = ticks.due
    dues = []
    for _ in range(1000):
        dues.append(ticks.due)
        late = ticks.due + 0.4  # each run starts late and takes a while: the next tick must not move
        assert ticks.catch_up(late, 0.0) == 0
        assert ticks.advance(late + 1.1, 0.0) == 0
    assert dues == pytest.approx([first + 7.3 * n for n in range(1000)], abs=1e-6)


def test_phase_is_the_hash_of_the_id_and_survives_a_restart() -> None:
    interval = 9.0
    for start in (0.0, 12.34, 5_000.1):
        ticks = IntervalTicks("redis/a", interval, now=100.0, wall=start)
        wall_due = start + ticks.due - 100.0
        assert wall_due % interval == pytest.approx(spread("redis/a", interval), abs=1e-6)
    assert spread("redis/a", interval) != spread("redis/b", interval)


def test_phases_of_many_instances_are_spread_evenly() -> None:
    phases = sorted(spread(f"redis/{n}", 10.0) for n in range(1000))
    for slot in range(10):
        assert 60 < sum(slot <= phase < slot + 1 for phase in phases) < 140


def test_a_far_phase_runs_once_within_ten_seconds_of_the_start() -> None:
    ticks = IntervalTicks("business_sql/hourly", 3600.0, now=0.0, wall=spread("business_sql/hourly", 3600.0) + 60)
    assert 0.0 <= ticks.due < 10.0
    early = ticks.due
    assert ticks.advance(early + 1, 0.0) == 0
    assert ticks.due == pytest.approx(3540.0)
    assert ticks.advance(3541.0, 0.0) == 0
    assert ticks.due == pytest.approx(3540.0 + 3600.0)


def test_ticks_that_fall_due_during_a_run_are_skipped_and_counted() -> None:
    ticks = IntervalTicks("a/a", 5.0, now=0.0, wall=0.0)
    first = ticks.due
    assert ticks.advance(first + 11.0, 0.0) == 2
    assert ticks.due == pytest.approx(first + 15.0)


def test_a_merely_late_tick_runs_at_once_and_a_suspend_costs_one_run() -> None:
    ticks = IntervalTicks("a/a", 5.0, now=0.0, wall=0.0)
    first = ticks.due
    assert ticks.catch_up(first + 4.9, 0.0) == 0
    assert ticks.due == pytest.approx(first)
    assert ticks.catch_up(first + 52.0, 0.0) == 10
    assert ticks.due == pytest.approx(first + 50.0)
    assert ticks.advance(first + 52.1, 0.0) == 0
    assert ticks.due == pytest.approx(first + 55.0)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (datetime(2026, 3, 29, 0, 50, tzinfo=BERLIN), ["01:30", "03:00", "03:30"]),  # 02:30 does not exist: at 03:00
        (datetime(2026, 10, 25, 0, 50, tzinfo=BERLIN), ["01:30", "02:30", "03:30"]),  # 02:30 twice: once
    ],
)
def test_cron_follows_the_wall_clock_over_daylight_saving(start: datetime, expected: list[str]) -> None:
    wall, now = start.timestamp(), 10.0
    ticks = CronTicks("30 1-3 * * *", "Europe/Berlin", now, wall)
    seen = []
    for _ in expected:
        due_wall = wall + ticks.due - now
        seen.append(datetime.fromtimestamp(due_wall, BERLIN).strftime("%H:%M"))
        now, wall = ticks.due + 0.01, due_wall + 0.01
        assert ticks.advance(now, wall) == 0
    assert seen == expected


def test_cron_skips_what_a_suspend_slept_through() -> None:
    start = datetime(2026, 1, 1, 12, 0, 30, tzinfo=ZoneInfo("UTC")).timestamp()
    ticks = CronTicks("* * * * *", "UTC", 0.0, start)
    assert ticks.due == pytest.approx(30.0)
    assert ticks.catch_up(30.0 + 300.0, start + 330.0) == 5
    assert ticks.advance(331.0, start + 331.0) == 0
    assert ticks.due == pytest.approx(390.0)


def test_a_cron_time_that_fell_into_a_takeover_is_due_at_once_if_it_is_not_long_ago() -> None:
    def due(ran: str | None, now: str) -> tuple[float, int]:
        wall, last = (datetime.fromisoformat(f"{one}+00:00").timestamp() if one else None for one in (now, ran))
        assert wall is not None
        ticks = CronTicks("0 3 * * *", "UTC", 50.0, wall, last)
        return ticks.due - 50.0, ticks.advance(ticks.due, wall)

    assert due("2026-01-01 03:00:01", "2026-01-02 03:00:20") == (0.0, 0)
    assert due("2026-01-01 03:00:01", "2026-01-02 02:59:20") == (40.0, 0)
    assert due("2026-01-02 03:00:01", "2026-01-02 03:00:20") == (86_380.0, 0)
    assert due("2026-01-01 03:00:01", "2026-01-02 04:00:20") == (82_780.0, 0)  # an hour ago: its time was another
    assert due("2025-11-11 03:00:01", "2026-01-02 03:00:20") == (0.0, 0)
    assert due(None, "2026-01-02 03:00:20") == (86_380.0, 0)
    wall = datetime(2026, 1, 1, 12, 5, 30, tzinfo=ZoneInfo("UTC")).timestamp()
    minutely = CronTicks("* * * * *", "UTC", 0.0, wall, wall - 200)
    assert (minutely.due, minutely.catch_up(0.0, wall), minutely.advance(1.0, wall + 1), minutely.due) == (0, 2, 0, 30)


def test_whoever_takes_over_begins_sooner_than_a_start_would() -> None:
    waits = [IntervalTicks(f"redis/{n}", 3600, 0.0, 0.0, 2.5).due for n in range(200)]
    assert (min(waits) < 0.1, 2.4 < max(waits) < 2.5) == (True, True)


def hourly(after: float) -> float:
    """A check that is due five minutes past each hour."""
    return (after - 300) // 3600 * 3600 + 3900


def test_a_check_with_a_clock_of_its_own_is_asked_after_each_run_and_skips_nothing() -> None:
    ticks = OwnTicks("sql/hourly", hourly, now=100.0, wall=7_200.0)
    assert ticks.due == pytest.approx(400.0)
    assert ticks.catch_up(9_000.0, 16_100.0) == 0  # it catches up on its own
    assert ticks.advance(9_001.0, 16_101.0) == 0
    assert ticks.due == pytest.approx(9_001.0 + 18_300 - 16_101)


def test_what_is_due_at_once_starts_within_two_seconds_and_not_all_together() -> None:
    dues = {OwnTicks(f"sql/{n}", lambda after: after - 50, now=10.0, wall=500.0).due for n in range(20)}
    assert len(dues) == 20
    assert all(10.0 <= due < 12.0 for due in dues)


def test_a_clock_that_is_set_moves_what_follows_the_wall_clock() -> None:
    own = OwnTicks("sql/hourly", hourly, now=0.0, wall=7_500.0)
    cron = CronTicks("5 * * * *", "UTC", now=0.0, wall=7_500.0)
    plain = IntervalTicks("sql/hourly", 10.0, now=0.0, wall=7_500.0)
    before = plain.due
    assert (own.due, cron.due) == (3_600.0, 3_600.0)
    for ticks in (own, cron, plain):
        ticks.adjust(60.0, 9_000.0)  # a minute later it is 24 minutes later
    assert (own.due, cron.due) == (60.0 + 2_100, 60.0 + 2_100)
    assert plain.due == before


def test_a_clock_of_its_own_that_stops_is_asked_again_in_a_minute() -> None:
    assert OwnTicks("a/a", lambda after: None, now=5.0, wall=1_000.0).due == pytest.approx(65.0)

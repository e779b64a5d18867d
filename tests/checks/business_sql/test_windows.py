"""Windows without gap or overlap, over every change of the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from vedette_checks.business_sql.windows import Grid, Window, divides_days

HOUR, DAY = 3_600, 86_400
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia",
         "America/Sao_Paulo", "Africa/Casablanca")  # fmt: skip


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("every", [pytest.param(900, marks=pytest.mark.soak), HOUR, 6 * HOUR, 12 * HOUR, DAY, 7 * DAY])
def test_a_year_has_neither_gap_nor_overlap(zone: str, every: int) -> None:
    grid = Grid(every, ZoneInfo(zone))
    start = at("2026-01-01T00:00:00+00:00")
    window = grid.at(start)
    while window.end < start + 366 * DAY:
        following = grid.after(window)
        assert following.start == window.end
        assert following.end > following.start
        assert grid.at(window.start) == grid.at(window.end - 1) == window
        assert grid.closed(window.end) == window
        local = datetime.fromtimestamp(following.start, ZoneInfo(zone))
        if every >= DAY:
            assert (local.hour, local.minute) == (0, 0) or local.utcoffset() != datetime.fromtimestamp(
                following.start - 1, ZoneInfo(zone)
            ).utcoffset()
        window = following


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)])
def test_a_day_in_berlin_has_as_many_windows_as_hours(day: str, hours: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    midnight = int(datetime.fromisoformat(day).replace(tzinfo=zone).timestamp())
    whole = Grid(DAY, zone).at(midnight)
    assert whole == Window(midnight, midnight + hours * HOUR)
    grid, window, number = Grid(HOUR, zone), Grid(HOUR, zone).at(midnight), 0
    while window.end <= whole.end:
        assert window.end - window.start == HOUR
        number += 1
        window = grid.after(window)
    assert number == hours


def test_windows_are_aligned_to_the_zones_clock() -> None:
    noon = at("2026-11-24T12:20:00+00:00")
    assert Grid(HOUR, ZoneInfo("Asia/Kathmandu")).at(noon).start == at("2026-11-24T12:15:00+00:00")  # +05:45
    assert Grid(6 * HOUR, ZoneInfo("Europe/Berlin")).at(noon).start == at("2026-11-24T12:00:00+01:00")
    assert Grid(7 * DAY, ZoneInfo("UTC")).at(noon) == Window(
        at("2026-11-23T00:00:00+00:00"), at("2026-11-30T00:00:00+00:00")
    )
    assert Grid(60, ZoneInfo("UTC")).closed(noon) == Window(noon - 60, noon)
    assert datetime.fromtimestamp(noon, UTC).minute == 20


@pytest.mark.parametrize("every", [1, 60, HOUR, DAY, 2 * DAY])
def test_what_divides_a_day(every: float) -> None:
    assert divides_days(every)


@pytest.mark.parametrize("every", [0.5, 7, 5 * HOUR, 1.5 * DAY])
def test_what_does_not(every: float) -> None:
    assert not divides_days(every)

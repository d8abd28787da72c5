"""When the time of day is believed: it was not set, or has gone on steadily since."""

from datetime import timedelta

import pytest

from alluvium_like.stages.steadiness import Reading, follow

NOW = 1_800_000_000.0
NOTHING = timedelta()


def after(
    before: Reading, passed: timedelta, *, moved: timedelta = NOTHING, boot: str = "boot"
) -> tuple[Reading, timedelta]:
    """Read the clocks again; a reboot starts the one from zero."""
    rebooted = boot != before.boot_id
    since_boot = 60.0 if rebooted else before.since_boot + passed.total_seconds()
    time_of_day = before.time_of_day + (passed + moved).total_seconds()
    return follow(before, Reading(boot, time_of_day, since_boot))


FIRST, _ = follow(None, Reading("boot", NOW, 1000.0))


def test_the_first_reading_is_believed() -> None:
    assert FIRST.is_believed


@pytest.mark.parametrize("passed", [timedelta(minutes=1), timedelta(days=400)])
def test_time_that_passed_by_both_clocks_is_believed_sleep_included(passed: timedelta) -> None:
    now, moved = after(FIRST, passed)
    assert (now.is_believed, moved) == (True, NOTHING)


@pytest.mark.parametrize("days", [-365, -1, 1, 365])
def test_a_clock_that_was_set_is_believed_again_after_a_steady_day(days: int) -> None:
    now, moved = after(FIRST, timedelta(hours=6), moved=timedelta(days=days))
    assert (now.is_believed, moved) == (False, timedelta(days=days))
    later, moved = after(now, timedelta(hours=23))
    assert (later.is_believed, moved) == (False, NOTHING)
    later, moved = after(later, timedelta(hours=2))
    assert (later.is_believed, moved) == (True, NOTHING)


def test_a_clock_that_is_set_right_again_has_its_steady_day_too() -> None:
    wrong, _ = after(FIRST, timedelta(hours=6), moved=timedelta(days=365))
    right, moved = after(wrong, timedelta(hours=23), moved=timedelta(days=-365))
    assert (right.is_believed, moved) == (False, timedelta(days=-365))
    assert not after(right, timedelta(hours=23))[0].is_believed
    assert after(right, timedelta(hours=25))[0].is_believed


def test_small_corrections_are_none() -> None:
    now, moved = after(FIRST, timedelta(hours=6), moved=timedelta(minutes=-59))
    assert (now.is_believed, moved) == (True, NOTHING)


def test_over_a_reboot_only_what_cannot_be_is_a_jump() -> None:
    assert after(FIRST, timedelta(days=29), boot="next")[0].is_believed
    assert not after(FIRST, timedelta(days=365), boot="next")[0].is_believed
    assert not after(FIRST, timedelta(days=-2), boot="next")[0].is_believed

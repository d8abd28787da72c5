"""Which agent works on a task now, and how long one waits that cannot."""

import tomllib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from alluvium_like.agents.outcome import Judged
from alluvium_like.clock import time_of_day, utc_after, utc_now
from alluvium_like.config import Config, parse_config
from alluvium_like.lifecycle import AgentOutcome, Ending
from alluvium_like.stages.parts import Parts, Settings
from alluvium_like.stages.profiles import (
    Profiles,
    note_fared,
    park_for_today,
    profiles_now,
    tomorrow,
)
from alluvium_like.store.writer import Store
from alluvium_like.task import Parked

CONFIG = """
[agent]
profile = "a"
[agents.a]
preset = "codex"
fallback = "b"
[agents.b]
preset = "claude"
fallback = "c"
[agents.c]
preset = "pi"
[agents.lone]
preset = "aider"
"""
AWAY = Judged(AgentOutcome.UNREACHABLE, "nobody answers")
FINE = Judged(AgentOutcome.OK)


def config(text: str = CONFIG) -> Config:
    return parse_config(tomllib.loads(text))


def parked(agent: str, seconds: float, times: int = 1) -> Parked:
    until = utc_after(timedelta(seconds=seconds))
    return Parked(agent, AgentOutcome.QUOTA, "used up", until, times, utc_now())


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    """What of the parts is needed: a real store, and a configuration."""
    store = await Store.open(tmp_path / "alluvium.db")
    yield cast(Parts, SimpleNamespace(store=store, settings=Settings(config())))
    await store.close()


async def row(parts: Parts, agent: str) -> Parked:
    (found,) = [each for each in await parts.store.parked() if each.agent == agent]
    return found


def left(row: Parked) -> float:
    return (datetime.fromisoformat(row.until) - datetime.now(UTC)).total_seconds()


async def let_pass(parts: Parts, agent: str) -> None:
    """Let the time be over for which an agent is parked."""
    was = await row(parts, agent)
    over = utc_after(timedelta(seconds=-1))
    await parts.store.write(
        "park", agent=agent, outcome=was.outcome, reason="", until=over, times=was.times
    )


@pytest.mark.parametrize(
    ("waits", "chosen", "works"),
    [
        ([], "", "a"),
        ([], "default", "default"),
        ([], "lone", "lone"),
        ([], "gone", "gone"),
        (["a"], "", "b"),
        (["a", "b"], "", "c"),
        (["a", "b", "c"], "", None),
        (["b"], "a", "a"),
        (["lone"], "lone", None),
        (["a", "b", "c"], "lone", "lone"),
        (["gone"], "gone", "gone"),
    ],
)
def test_while_an_agent_is_parked_its_fallback_works(
    waits: list[str], chosen: str, works: str | None
) -> None:
    working = Profiles(config(), [parked(name, 60) for name in waits]).working(chosen)
    assert working == works


def test_tasks_wait_whose_agent_and_all_its_fallbacks_are_parked() -> None:
    rows = [parked("b", 60), parked("c", 30), parked("gone", 10)]
    held = Profiles(config(), rows)
    assert set(held.held) == {"b", "c"}
    assert held.next_change == min(row.until for row in rows[:2])
    assert set(Profiles(config(), [*rows, parked("a", 60)]).held) == {"", "a", "b", "c"}


@pytest.mark.parametrize("seconds", [-1, timedelta(days=9).total_seconds()])
def test_a_time_that_is_over_or_too_far_holds_nobody(seconds: float) -> None:
    """Where more is left than any quota lasts, the clock was set back."""
    now = Profiles(config(), [parked("lone", seconds)])
    working = now.working("lone")
    assert (working, now.held, now.next_change) == ("lone", [], None)


async def test_a_quota_waits_until_the_time_that_was_told(parts: Parts) -> None:
    resets = time_of_day() + 4000
    await note_fared(parts, "a", Judged(AgentOutcome.QUOTA, "used up", resets))
    assert left(await row(parts, "a")) == pytest.approx(4001, abs=2)


@pytest.mark.parametrize("resets", [0.0, -1.0, float("inf"), float("nan"), 9e9, 1e300])
async def test_a_time_that_cannot_be_is_a_pause_as_if_none_were_told(
    parts: Parts, resets: float
) -> None:
    await note_fared(parts, "a", Judged(AgentOutcome.QUOTA, "used up", resets))
    assert left(await row(parts, "a")) == pytest.approx(300, abs=2)


@pytest.mark.parametrize(
    ("judged", "pauses"),
    [
        (Judged(AgentOutcome.QUOTA), [300, 600, 1200, 2400, 4800, 7200, 7200]),
        (Judged(AgentOutcome.QUOTA, burst=True), [30, 60, 120, 240]),
        (Judged(AgentOutcome.AUTH), [300, 600, 1200, 2400, 3600, 3600]),
        (AWAY, [15, 30, 60, 120, 240, 480, 900, 900]),
    ],
)
async def test_pauses_grow_to_their_longest(
    parts: Parts, judged: Judged, pauses: list[float]
) -> None:
    seen = []
    for _ in pauses:
        await note_fared(parts, "a", judged)
        seen.append(left(await row(parts, "a")))
        await let_pass(parts, "a")
    assert seen == pytest.approx(pauses, abs=2)


async def test_an_outage_that_several_attempts_meet_counts_once(parts: Parts) -> None:
    for _ in range(5):
        await note_fared(parts, "a", AWAY)
    assert left(await row(parts, "a")) == pytest.approx(15, abs=2)


@pytest.mark.parametrize(
    "later",
    [
        Judged(AgentOutcome.QUOTA, "too many requests", time_of_day() + 5, burst=True),
        Judged(AgentOutcome.UNREACHABLE, "nobody answers"),
    ],
)
async def test_a_guess_does_not_shorten_what_the_provider_has_said(
    parts: Parts, later: Judged
) -> None:
    await note_fared(parts, "a", Judged(AgentOutcome.QUOTA, "used up", time_of_day() + 4000))
    await note_fared(parts, "a", later)
    kept = await row(parts, "a")
    assert kept.reason == "used up"
    assert left(kept) == pytest.approx(4001, abs=2)
    await note_fared(parts, "a", Judged(AgentOutcome.QUOTA, "used up", time_of_day() + 60))
    assert left(await row(parts, "a")) == pytest.approx(61, abs=2)


async def test_another_trouble_begins_with_its_first_pause(parts: Parts) -> None:
    for _ in range(4):
        await note_fared(parts, "a", AWAY)
        await let_pass(parts, "a")
    await note_fared(parts, "a", Judged(AgentOutcome.AUTH, "401"))
    assert left(await row(parts, "a")) == pytest.approx(300, abs=2)


async def test_one_that_worked_again_begins_with_the_first_pause(parts: Parts) -> None:
    for _ in range(3):
        await note_fared(parts, "a", AWAY)
        await let_pass(parts, "a")
    await note_fared(parts, "a", Judged(AgentOutcome.CRASHED))
    assert (await row(parts, "a")).times == 3, "a crash does not show that it works"
    await note_fared(parts, "a", FINE)
    assert await parts.store.parked() == []
    await note_fared(parts, "a", AWAY)
    assert left(await row(parts, "a")) == pytest.approx(15, abs=2)


async def test_an_attempt_that_was_begun_before_its_agent_was_parked_frees_nobody(
    parts: Parts,
) -> None:
    await note_fared(parts, "a", AWAY)
    await note_fared(parts, "a", FINE)
    assert (await profiles_now(parts)).is_parked("a")


async def test_a_budget_of_the_day_waits_until_the_next_one(parts: Parts) -> None:
    await park_for_today(parts, "a", "a used 5 of 5 tokens today (UTC)")
    kept = await row(parts, "a")
    assert (kept.outcome, kept.until) == (Ending.BUDGET, tomorrow())
    assert 0 < left(kept) <= 86_400
    assert kept.until.endswith("T00:00:00.000Z")

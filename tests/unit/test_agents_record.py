"""What one run told, and what it comes to: precedence, duplicates, limits that were got over."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from alluvium_like.agents.adapters.base import Reader
from alluvium_like.agents.complaints import event_of, reset_in
from alluvium_like.agents.events import (
    End,
    Event,
    Failure,
    FileChange,
    Limit,
    Message,
    Session,
    ToolCall,
    Usage,
)
from alluvium_like.agents.outcome import judge_exit, judge_run
from alluvium_like.agents.prices import CostSource, cost_of
from alluvium_like.agents.record import Record
from alluvium_like.clock import time_of_day
from alluvium_like.config.agents import Price
from alluvium_like.lifecycle import AgentOutcome, Ending

SAID = Message("I did it.")
WELL, BADLY = End(ok=True), End(ok=False, text="it went wrong")
LATER = time_of_day() + 3600
QUOTA = Limit("used up", quota=True, resets_at=LATER)
BURST = Limit("429", quota=False)
AUTH = Failure("401", AgentOutcome.AUTH)
AWAY = Failure("connection refused", AgentOutcome.UNREACHABLE)
ODD = Failure("something odd")


class Script(Reader):
    """Tells the events that were scripted, one a line."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = iter(events)

    def line(self, text: str) -> Iterable[Event]:
        return [next(self._events)]


def record_of(folder: Path, *events: Event) -> Record:
    record = Record(Script(events), folder / "transcript.jsonl", lambda _: None)
    for _ in events:
        record.take_line(b"line", error=False)
    record.finish()
    return record


@pytest.mark.parametrize(
    ("events", "ending", "code", "outcome"),
    [
        ((SAID, WELL), Ending.EXITED, 0, AgentOutcome.OK),
        ((Usage(output_tokens=3), WELL), Ending.EXITED, 0, AgentOutcome.OK),
        # Programs try again by themselves.
        ((BURST, SAID, WELL), Ending.EXITED, 0, AgentOutcome.OK),
        ((QUOTA, ToolCall("shell"), WELL), Ending.EXITED, 0, AgentOutcome.OK),
        ((AWAY, FileChange("a"), WELL), Ending.EXITED, 0, AgentOutcome.OK),
        ((SAID, ODD, WELL), Ending.EXITED, 0, AgentOutcome.OK),
        # An exit of 0 is not believed.
        ((), Ending.EXITED, 0, AgentOutcome.CRASHED),
        ((WELL,), Ending.EXITED, 0, AgentOutcome.CRASHED),
        ((SAID,), Ending.EXITED, 0, AgentOutcome.CRASHED),
        ((SAID, BADLY), Ending.EXITED, 0, AgentOutcome.CRASHED),
        ((SAID, AUTH, BADLY), Ending.EXITED, 0, AgentOutcome.AUTH),
        ((SAID, WELL, QUOTA), Ending.EXITED, 0, AgentOutcome.QUOTA),
        ((SAID, WELL, ODD), Ending.EXITED, 0, AgentOutcome.CRASHED),
        # A good end is not believed against the exit.
        ((SAID, WELL), Ending.EXITED, 1, AgentOutcome.CRASHED),
        ((SAID, WELL), Ending.EXITED, -9, AgentOutcome.CRASHED),
        # What was told is surer than how it ended, and a limit than what followed from it.
        ((SAID, QUOTA), Ending.STALLED, -15, AgentOutcome.QUOTA),
        ((SAID, QUOTA, AUTH), Ending.EXITED, 1, AgentOutcome.QUOTA),
        ((AWAY,), Ending.TIMED_OUT, -15, AgentOutcome.UNREACHABLE),
        ((ODD,), Ending.TIMED_OUT, -15, AgentOutcome.TIMED_OUT),
        ((SAID,), Ending.STALLED, -15, AgentOutcome.STALL),
        ((AUTH, AWAY, ODD), Ending.EXITED, 1, AgentOutcome.AUTH),
        ((AWAY, ODD, AUTH), Ending.EXITED, 1, AgentOutcome.AUTH),
        ((), Ending.NOT_STARTED, None, AgentOutcome.CRASHED),
    ],
)
def test_an_outcome_is_what_exit_end_and_troubles_come_to(
    tmp_path: Path,
    events: tuple[Event, ...],
    ending: Ending,
    code: int | None,
    outcome: AgentOutcome,
) -> None:
    judged = judge_run(ending, code, record_of(tmp_path, *events), needs_end=True, words="so")
    assert judged.outcome is outcome
    assert bool(judged.reason) == (outcome is not AgentOutcome.OK)
    assert judged.resets_at == (LATER if outcome is AgentOutcome.QUOTA else None)


def test_a_program_that_never_tells_of_its_end_is_well_without_it(tmp_path: Path) -> None:
    judged = judge_run(Ending.EXITED, 0, record_of(tmp_path), needs_end=False)
    assert judged.outcome is AgentOutcome.OK
    judged = judge_run(Ending.EXITED, 0, record_of(tmp_path, ODD), needs_end=False)
    assert (judged.outcome, judged.reason) == (AgentOutcome.CRASHED, "something odd")


def test_a_burst_is_no_quota(tmp_path: Path) -> None:
    judged = judge_run(Ending.EXITED, 1, record_of(tmp_path, BURST), needs_end=True)
    assert (judged.outcome, judged.burst) == (AgentOutcome.QUOTA, True)
    assert not judge_run(Ending.EXITED, 1, record_of(tmp_path, QUOTA), needs_end=True).burst


@pytest.mark.parametrize(
    ("ending", "code", "outcome"),
    [
        (Ending.EXITED, 0, AgentOutcome.OK),
        (Ending.EXITED, 3, AgentOutcome.CRASHED),
        (Ending.STALLED, -15, AgentOutcome.STALL),
        (Ending.TIMED_OUT, -15, AgentOutcome.TIMED_OUT),
        (Ending.NOT_STARTED, None, AgentOutcome.CRASHED),
    ],
)
def test_a_program_that_nobody_reads_is_judged_by_its_exit(
    ending: Ending, code: int | None, outcome: AgentOutcome
) -> None:
    assert judge_exit(ending, code, "words").outcome is outcome


def test_what_is_told_twice_is_written_once(tmp_path: Path) -> None:
    record_of(tmp_path, QUOTA, QUOTA, ODD, ODD, SAID, SAID, WELL)
    lines = (tmp_path / "transcript.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds == ["limit", "error", "message", "message", "end"]


def test_usage_adds_up_and_a_total_stands_for_all_of_it(tmp_path: Path) -> None:
    told: list[Usage] = []
    events = (Usage(5, 1, 2), Usage(5, 1, 2, model="m"), Usage(9, 2, 4, cost=0.5, total=True))
    record = Record(Script(events), tmp_path / "transcript.jsonl", told.append)
    for _ in events:
        record.take_line(b"line", error=False)
    record.finish()
    assert [(each.tokens, each.cost) for each in told] == [(7, None), (14, None), (13, 0.5)]


@pytest.mark.parametrize("name", ["", "-x", "--resume", "a\nb", "a\0b", "\ud800", "x" * 501])
def test_a_session_that_could_be_no_argument_is_not_kept(tmp_path: Path, name: str) -> None:
    assert record_of(tmp_path, Session("good"), Session(name)).session == "good"


def planted_pipe(place: Path, _: Path) -> None:
    os.mkfifo(place)


def planted_link(place: Path, precious: Path) -> None:
    place.symlink_to(precious)


def planted_folder(place: Path, _: Path) -> None:
    place.mkdir()


@pytest.mark.parametrize("plant", [planted_pipe, planted_link, planted_folder])
def test_what_is_planted_in_a_transcripts_place_is_neither_written_nor_waited_for(
    tmp_path: Path, plant: object
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    assert callable(plant)
    plant(tmp_path / "transcript.jsonl", precious)
    assert record_of(tmp_path, SAID, WELL).did_something
    assert precious.read_text() == "mine"


PRICES = {
    "gpt-5": Price(input=2, cached=0.5, output=10),
    "gpt-5-mini": Price(input=1, output=3),
    "free": Price(),
}
MILLION = 1_000_000


@pytest.mark.parametrize(
    ("usage", "model", "cost", "source"),
    [
        (Usage(MILLION, 0, MILLION), "gpt-5", 12.0, CostSource.ESTIMATED),
        (Usage(MILLION, MILLION // 2, 0), "gpt-5", 1.25, CostSource.ESTIMATED),
        (Usage(MILLION, MILLION, 0), "gpt-5-mini-2026", 1.0, CostSource.ESTIMATED),
        (Usage(0, MILLION, MILLION), "openai/gpt-5", 10.5, CostSource.ESTIMATED),
        (Usage(0, 0, MILLION, model="gpt-5-mini"), "gpt-5", 3.0, CostSource.ESTIMATED),
        (Usage(MILLION, 0, 0), "free-7b", 0.0, CostSource.ESTIMATED),
        (Usage(MILLION, 0, 0, cost=0.25), "gpt-5", 0.25, CostSource.REPORTED),
        (Usage(MILLION, 0, 0, cost=0.0), "gpt-5", 2.0, CostSource.ESTIMATED),
        (Usage(MILLION, 0, 0, cost=0.0), "other", None, CostSource.UNKNOWN),
        (Usage(MILLION, 0, 0), "", None, CostSource.UNKNOWN),
        (Usage(), "gpt-5", None, CostSource.UNKNOWN),
        (Usage(cost=0.0), "gpt-5", 0.0, CostSource.REPORTED),
    ],
)
def test_a_cost_is_what_is_reported_else_estimated_else_unknown(
    usage: Usage, model: str, cost: float | None, source: CostSource
) -> None:
    found, where = cost_of(usage, model, PRICES)
    assert (found, where) == (pytest.approx(cost) if cost is not None else None, source)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("please try again in 20ms.", 0.02),
        ("please try again in 1.2s.", 1.2),
        ("retry-after: 20", 20),
        ("retry-after-ms: 1500", 1.5),
        ("try again in 3 minutes", 180),
        ("try again in 6m0s", 360),
        ("reset after 5h3m20s", 18_200),
        ("try again in 5 days", 432_000),
        ("try again in 2 days 3 hours", 183_600),
        ('"resets_in_seconds":60', 60),
    ],
)
def test_a_pause_that_is_told_is_read(words: str, seconds: float) -> None:
    assert reset_in(words) == pytest.approx(time_of_day() + seconds, abs=2)


@pytest.mark.parametrize(
    "words",
    [
        *("try again later", "try again at 25:99 pm", "try again at jan 1st, 0001 1:00 am"),
        *(f"retry after {'9' * 400} s", f"try again in {'9' * 400}h"),
    ],
)
def test_a_pause_that_makes_no_sense_is_none(words: str) -> None:
    assert reset_in(words) is None
    assert isinstance(event_of(f"429 {words}"), Limit)

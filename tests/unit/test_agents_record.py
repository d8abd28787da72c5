"""What one run told, and what it comes to: precedence, duplicates, limits that were got over."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from alluvium_like import masking
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
from alluvium_like.agents.outcome import judge
from alluvium_like.agents.prices import CostSource, cost_of, cost_of_all
from alluvium_like.agents.record import Record
from alluvium_like.clock import time_of_day
from alluvium_like.config.agents import Price
from alluvium_like.execution.process import RunEnd
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


def an_end(ending: Ending, code: int | None) -> RunEnd:
    return RunEnd(ending, code, "so it ended", 0.0, 0)


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
    judged = judge(an_end(ending, code), record_of(tmp_path, *events))
    assert judged.outcome is outcome
    assert bool(judged.reason) == (outcome is not AgentOutcome.OK)
    assert judged.resets_at == (LATER if outcome is AgentOutcome.QUOTA else None)


def test_a_burst_is_no_quota(tmp_path: Path) -> None:
    judged = judge(an_end(Ending.EXITED, 1), record_of(tmp_path, BURST))
    assert (judged.outcome, judged.burst) == (AgentOutcome.QUOTA, True)
    assert not judge(an_end(Ending.EXITED, 1), record_of(tmp_path, QUOTA)).burst


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
    assert judge(an_end(ending, code), None).outcome is outcome


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


@pytest.fixture
def hush(monkeypatch: pytest.MonkeyPatch) -> str:
    """A secret, for one test."""
    monkeypatch.setattr(masking, "_values", set())
    monkeypatch.setattr(masking, "_known", masking._Known())
    masking.remember(["hush-4711-4712"])
    return "hush-4711-4712"


@pytest.mark.parametrize(
    "make", [Message, partial(ToolCall, "shell"), FileChange, Failure, partial(Session, "s")]
)
def test_what_is_told_is_written_without_secrets_and_then_cut(
    tmp_path: Path, hush: str, make: Callable[[str], Event]
) -> None:
    """Else the front of one would stay where the rest of it is cut off."""
    record_of(tmp_path, make("x" * 19_990 + hush))
    written = (tmp_path / "transcript.jsonl").read_text()
    assert "[masked]" in written
    assert "hush" not in written


@pytest.mark.parametrize("make", [Failure, partial(Limit, quota=True), partial(End, False)])
def test_a_reason_is_masked_and_then_cut(
    tmp_path: Path, hush: str, make: Callable[[str], Event]
) -> None:
    told = "x" * 289 + " " + hush
    judged = judge(an_end(Ending.EXITED, 0), record_of(tmp_path, make(told)))
    assert judged.reason == "x" * 289 + " [masked]"


def test_a_session_that_is_a_secret_is_not_kept(tmp_path: Path, hush: str) -> None:
    assert record_of(tmp_path, Session("good"), Session(hush)).session == "good"


def test_a_model_keeps_its_name_by_which_it_has_its_price(tmp_path: Path, hush: str) -> None:
    """It may be passed in a variable, and is no secret then either."""
    assert record_of(tmp_path, Usage(1, 0, 1, model=hush)).usage.model == hush
    assert hush not in (tmp_path / "transcript.jsonl").read_text()


class Stumbling(Reader):
    """Cannot make sense of anything but the word `end`."""

    def line(self, text: str) -> Iterator[Event]:
        yield SAID
        if text != "end":
            raise RecursionError
        yield WELL

    def error_line(self, text: str) -> Iterable[Event]:
        raise OverflowError

    def finish(self) -> Iterable[Event]:
        raise RecursionError


def test_a_reader_that_stumbles_goes_on_and_that_is_said_once(tmp_path: Path) -> None:
    """What a program prints neither ends the daemon's work nor hides what it prints later."""
    record = Record(Stumbling(), tmp_path / "transcript.jsonl", lambda _: None)
    with capture_logs() as logs:
        record.take_line(b"nested", error=False)
        record.take_line(b"a giant number", error=True)
        record.take_line(b"end", error=False)
        record.finish()
    assert judge(an_end(Ending.EXITED, 0), record).outcome is AgentOutcome.OK
    assert [each["event"] for each in logs] == ["output_not_understood"]


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


def test_what_several_runs_cost_is_as_well_known_as_the_least_known_of_them() -> None:
    reported, unknown = Usage(10, 0, 1, cost=0.5), Usage(7, 0, 1, model="other")
    estimated = Usage(MILLION, 0, 0, model="gpt-5")
    told = partial(cost_of_all, model="", prices=PRICES)
    assert told([]) == (None, CostSource.UNKNOWN)
    assert told([reported, reported]) == (1.0, CostSource.REPORTED)
    assert told([reported, estimated]) == (2.5, CostSource.ESTIMATED)
    assert told([reported, unknown]) == (0.5, CostSource.UNKNOWN)
    assert told([unknown]) == (None, CostSource.UNKNOWN)


@pytest.mark.parametrize(
    ("events", "seconds"),
    [
        ([AWAY], 0),
        ([AWAY, AWAY], 100),
        ([AWAY, QUOTA, AWAY], 200),
        ([AWAY, QUOTA, ODD], 200),
        ([QUOTA, SAID], 0),
        ([AWAY, SAID, AWAY], 0),
        ([AWAY, Usage(1, 0, 1), AWAY], 0),
        ([AWAY, Usage(1, 0, 1), AWAY, AWAY], 100),
        ([AWAY, ODD, AWAY], 200),
        ([AWAY, AWAY, SAID], 0),
    ],
)
def test_a_provider_refuses_from_the_first_complaint_to_the_last_if_nothing_comes_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event], seconds: float
) -> None:
    """One hiccup, and minutes in which the model thinks, is none."""
    record = Record(Script(events), tmp_path / "transcript.jsonl", lambda _: None)
    for number in range(len(events)):
        monkeypatch.setattr("alluvium_like.agents.record.monotonic", lambda n=number: 100.0 * n)
        record.take_line(b"line", error=False)
    record.finish()
    assert record.refused_seconds == seconds


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ("Request too large for gpt-5 on tokens per min (TPM): Limit 30000", AgentOutcome.CONTEXT),
        ("429: too many tokens in the prompt", AgentOutcome.CONTEXT),
        ("Too many tokens, please wait before trying again. rate limit", None),
        ("Rate limit reached on tokens per min (TPM): Limit 30000, Used 29500", None),
    ],
)
def test_a_request_that_is_too_large_is_no_burst(words: str, outcome: AgentOutcome | None) -> None:
    told = event_of(words)
    assert told.outcome == outcome if isinstance(told, Failure) else outcome is None

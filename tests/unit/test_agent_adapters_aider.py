"""What aider prints for people: its tokens, its edits, and what its complaints mean."""

from pathlib import Path

import pytest
from stream_bed import CRASHED, OK, QUOTA, UNREACHABLE, call_in, run

from alluvium_like.agents.events import Usage
from alluvium_like.lifecycle import AgentOutcome

TOKENS = "Tokens: 1.2k sent, 56 received."
EDIT = ["a.txt", "```", "<<<<<<< SEARCH", "=======", "a", ">>>>>>> REPLACE", "```"]
APPLIED = "Applied edit to a.txt"
WHOLE = "Model: openai/m with whole edit format, infinite output"


@pytest.mark.parametrize(
    ("lines", "usage"),
    [
        (
            ["Tokens: 12k sent, 3.1k cache write, 5k cache hit, 1.2k received."],
            Usage(12_000, 5_000, 1_200),
        ),
        (
            ["Tokens: 999 sent, 1 received. Cost: $0.0011 message, $0.0022 session."] * 2,
            Usage(1_998, 0, 2, 0.0022),
        ),
        (
            ["Tokens: 5k sent, 5k cache hit, 7 received.", "Cost: $0.50 message, $1.00 session."],
            Usage(5_000, 5_000, 7, 0.5),
        ),
        (["Tokens: 5k sent, inf cache hit, 7 received."], Usage()),
        ([f"Tokens: {'9' * 400}k sent, 7 received."], Usage()),
        ([f"Tokens: 5 sent, 7 received. Cost: ${'9' * 308}.0 message."], Usage(5, 0, 7)),
    ],
)
def test_what_aider_says_of_tokens_and_cost_is_added_up(
    lines: list[str], usage: Usage, tmp_path: Path
) -> None:
    assert run("aider", lines, call_in(tmp_path)).usage == usage


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ([*EDIT, TOKENS, "a.txt", APPLIED], OK),
        (["There is nothing to do.", TOKENS], OK),
        ([*EDIT, TOKENS, "a.txt"], CRASHED),
        ([*EDIT, APPLIED, TOKENS], CRASHED),
        ([*EDIT, TOKENS, "a.txt", "I give up.", TOKENS], CRASHED),
        ([*EDIT, TOKENS, "a.txt", *EDIT, TOKENS, APPLIED], OK),
        (["```", "an example", "```", TOKENS], OK),
        ([WHOLE, "a.txt", "```", "a", "```", TOKENS], CRASHED),
        ([WHOLE, "a.txt", "```", "a", "```", TOKENS, APPLIED], OK),
        (["Model: m with patch edit format", "*** Begin Patch", TOKENS], CRASHED),
        (["Main model: m with udiff edit format", "```diff", TOKENS], CRASHED),
        *(
            (["Done.", TOKENS, APPLIED, trouble], CRASHED)
            for trouble in (
                "The LLM did not conform to the edit format.",
                "Exception while updating files:",
                "Only 3 reflections allowed, stopping.",
                "Traceback (most recent call last):",
                "Unable to create b.txt, skipping edits.",
                "Skipping edits to b.txt that matches gitignore spec.",
            )
        ),
    ],
)
def test_aider_has_done_nothing_until_its_edits_are_applied(
    lines: list[str], outcome: AgentOutcome, tmp_path: Path
) -> None:
    assert run("aider", lines, call_in(tmp_path)).judged.outcome is outcome


def test_a_server_that_answered_before_and_is_gone_is_unreachable_to_aider(tmp_path: Path) -> None:
    status = '! [httpx:1025 - INFO] HTTP Request: POST http://h/v1 "HTTP/1.1 200 OK"'
    gone = "litellm.InternalServerError: InternalServerError: OpenAIException - Connection error."
    lines = [status, "Well.", TOKENS, gone]

    assert run("aider", lines, call_in(tmp_path)).judged.outcome is UNREACHABLE
    assert run("aider", [*lines, status], call_in(tmp_path)).judged.outcome is CRASHED


@pytest.mark.parametrize("hours", ["99999999", "9" * 5000])
def test_a_quota_that_is_back_in_no_possible_time_is_back_at_an_unknown_one(
    hours: str, tmp_path: Path
) -> None:
    line = f"litellm.RateLimitError: requests per day. Please try again in {hours}h"

    judged = run("aider", [line], call_in(tmp_path)).judged

    assert (judged.outcome, judged.resets_at) == (QUOTA, None)

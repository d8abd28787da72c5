"""What the words of providers mean, and when they say that a limit ends."""

from datetime import UTC, datetime

import pytest

from alluvium_like.agents import complaints
from alluvium_like.agents.complaints import event_of, reset_in
from alluvium_like.agents.events import Failure, Limit
from alluvium_like.lifecycle import AgentOutcome

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complaints, "time_of_day", lambda: NOW)


@pytest.mark.parametrize(
    "words",
    [
        "unexpected status 402 Payment Required",
        "Payment required",
        "Insufficient Balance",
        "insufficient credits, add more",
        "Your account balance is insufficient",
        "insufficient funds",
        "This request requires more credits",
        "You have run out of credits",
        "monthly spend limit reached",
        "You have hit your spending limit",
    ],
)
def test_an_account_without_money_is_a_quota_that_is_used_up(words: str) -> None:
    assert event_of(words) == Limit(words, quota=True)


def test_the_status_alone_tells_that_nothing_is_paid_for() -> None:
    assert event_of("boom", 402) == Limit("boom", quota=True)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("retry after 2026-11-22T10:00:00Z", 3600),
        ("retry after 2026-11-22 11:00:00.5+01:00", 3600.5),
        ("resets at 2026-11-22T10:00:00Z", 3600),
        ("Retry-After: Sun, 22 Nov 2026 10:00:00 GMT", 3600),
        ("retry_after_seconds: 90", 90),
        ('{"retry_after_ms": 1500}', 1.5),
        ("retry-after-ms=700", 0.7),
        ("retry-after header missing, try again in 5s", 5),
    ],
)
def test_a_time_is_understood_in_every_form_that_providers_write(
    words: str, seconds: float
) -> None:
    assert reset_in(words.lower()) == pytest.approx(NOW + seconds)


@pytest.mark.parametrize(
    "words", ["retry after 2026-11-22", "retry after 2026-11-22T99:00", "retry after 10:30"]
)
def test_a_date_is_no_number_of_seconds(words: str) -> None:
    assert reset_in(words.lower()) is None


def test_a_burst_that_ends_in_more_than_ten_minutes_is_a_quota() -> None:
    near, far = "429: retry after 600", "429: retry after 601"
    assert event_of(near) == Limit(near, quota=False, resets_at=NOW + 600)
    assert event_of(far) == Limit(far, quota=True, resets_at=NOW + 601)
    assert event_of("429", resets_at=NOW + 601) == Limit("429", quota=True, resets_at=NOW + 601)
    assert event_of(near, resets_at=NOW + 601) == Limit(near, quota=False, resets_at=NOW + 600)


def test_an_answer_that_is_none_is_that_of_nobody() -> None:
    words = "API returned an empty or malformed response (HTTP 200)"
    assert event_of(words) == Failure(words, AgentOutcome.UNREACHABLE)

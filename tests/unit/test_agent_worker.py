"""A worker: what its runs with a session have told to have used, and what it is given in secret."""

from pathlib import Path

import pytest

from alluvium_like import masking
from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import Call
from alluvium_like.agents.command import AttemptPlaces
from alluvium_like.agents.events import Usage
from alluvium_like.config.agents import Profile
from alluvium_like.stages.dispatch.worker import Worker, remember_secrets


def a_worker(*, resume: bool = True) -> Worker:
    here = Path("/nowhere")
    places = AttemptPlaces("t", here, here / ".agent", here, "b", here / "prompt.md")
    call = Call(here, "all of it", here / "prompt.md", here / ".agent/sessions")
    profile = Profile(preset="codex", resume=resume)
    return Worker("default", profile, ADAPTERS["codex"], places, call, "what is new")


def test_what_runs_of_a_session_have_told_adds_up_and_is_never_that_of_another() -> None:
    worker = a_worker().with_session("one", Usage(5, 1, 2))
    assert (worker.call.session, worker.call.prompt) == ("one", "what is new")
    assert worker.call.told == Usage(5, 1, 2)
    assert worker.with_session("two", Usage(10, 0, 3)).call.told == Usage(10, 0, 3)


def test_a_session_is_left_where_the_profile_resumes_none() -> None:
    worker = a_worker(resume=False)
    assert worker.with_session("one", Usage(5, 1, 2)) == worker
    assert a_worker().with_session("", Usage(5, 1, 2)).call.prompt == "all of it"


def test_what_is_passed_is_secret_but_not_what_every_agent_is_given_and_no_authors_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(masking, "_values", set())
    monkeypatch.setattr(masking, "_known", masking._Known())
    for name, value in {"USER": "somebody", "LOGNAME": "somebody", "PLACE": "passed-4711"}.items():
        monkeypatch.setenv(name, value)
    fixed = ("MY_KEY=fixed-4711", "Auth=fixed-4712", "GIT_AUTHOR_NAME=Jane Doe", "PLAIN=fixed-4713")
    remember_secrets([Profile(env=("USER", "LOGNAME", "PLACE", "NOT_THERE", *fixed))])
    told = "somebody passed-4711 fixed-4711 fixed-4712 Jane Doe fixed-4713"
    assert masking.mask(told) == "somebody [masked] [masked] [masked] Jane Doe fixed-4713"

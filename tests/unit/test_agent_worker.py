"""A worker that goes on with a session knows what its runs have told to have used."""

from pathlib import Path

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import Call
from alluvium_like.agents.command import AttemptPlaces
from alluvium_like.agents.events import Usage
from alluvium_like.config.agents import Profile
from alluvium_like.stages.dispatch.worker import Worker


def a_worker(*, resume: bool = True) -> Worker:
    here = Path("/nowhere")
    places = AttemptPlaces("t", here, here / ".agent", here, "b", here / "prompt.md")
    call = Call(here, "all of it", here / "prompt.md", here / ".agent/sessions")
    profile = Profile(preset="codex", resume=resume)
    return Worker("default", profile, ADAPTERS["codex"], places, call, "what is new", {})


def test_what_runs_of_a_session_have_told_adds_up_and_is_never_that_of_another() -> None:
    worker = a_worker().with_session("one", Usage(5, 1, 2))
    assert (worker.call.session, worker.call.prompt) == ("one", "what is new")
    assert worker.with_session("one", Usage(10, 0, 3)).call.told == Usage(15, 1, 5)
    assert worker.with_session("two", Usage(10, 0, 3)).call.told == Usage(10, 0, 3)


def test_a_session_is_left_where_the_profile_resumes_none() -> None:
    worker = a_worker(resume=False)
    assert worker.with_session("one", Usage(5, 1, 2)) == worker
    assert a_worker().with_session("", Usage(5, 1, 2)).call.prompt == "all of it"

import sys
from pathlib import Path

from alluvium_like.agents.command import (
    AttemptPlaces,
    base_environment,
    build_command,
    build_environment,
    fill,
)

PLACES = AttemptPlaces(
    task_id="20260101-fix-a1b2c3",
    task_dir=Path("/w/tasks/t"),
    agent_dir=Path("/w/tasks/t/.agent"),
    worktree=Path("/w/worktrees/t"),
    branch="task/t",
    prompt_file=Path("/w/tasks/t/.agent/prompt.md"),
)


def test_every_placeholder_is_filled() -> None:
    template = "{task_id} {task_dir} {agent_dir} {worktree} {branch} {prompt_file} {python}"
    assert fill(template, PLACES) == (
        "20260101-fix-a1b2c3 /w/tasks/t /w/tasks/t/.agent /w/worktrees/t task/t "
        f"/w/tasks/t/.agent/prompt.md {sys.executable}"
    )


def test_other_braces_stay_as_they_are() -> None:
    for text in (
        '{"branch": {"x": 1}}',
        "{}",
        "{unknown}",
        "${HOME}",
        "{{",
        "{task_id",
        "{ branch }",
    ):
        assert fill(text, PLACES) == text


def test_what_is_filled_in_is_not_filled_again() -> None:
    places = AttemptPlaces("{branch}", *(Path("/{task_id}"),) * 3, "task/t", Path("/p"))
    assert fill("{task_id} {worktree}", places) == "{branch} /{task_id}"


def test_a_command_keeps_its_words_apart() -> None:
    places = AttemptPlaces("t", *(Path("/with space; rm"),) * 3, "task/t", Path("/p"))
    assert build_command(["run", "--in={worktree}", "{branch}"], places) == [
        "run",
        "--in=/with space; rm",
        "task/t",
    ]


def test_the_environment_is_built_from_nothing() -> None:
    source = {
        "PATH": "/bin",
        "LC_TIME": "C",
        "AWS_SECRET_ACCESS_KEY": "s",
        "GIT_DIR": "/elsewhere",
        "API_KEY": "k",
        "PYTHONPATH": "/x",
    }
    assert base_environment(source, ["API_KEY", "ABSENT"]) == {
        "PATH": "/bin",
        "LC_TIME": "C",
        "API_KEY": "k",
    }


def test_an_agent_is_told_its_places_and_nothing_passed_on_overrides_them() -> None:
    source = {"HOME": "/home/me", "ALLUVIUM_BRANCH": "main", "ALLUVIUM_OTHER": "x"}
    assert build_environment(PLACES, pass_names=["ALLUVIUM_BRANCH"], source=source) == {
        "HOME": "/home/me",
        "ALLUVIUM_TASK_ID": "20260101-fix-a1b2c3",
        "ALLUVIUM_TASK_DIR": "/w/tasks/t",
        "ALLUVIUM_AGENT_DIR": "/w/tasks/t/.agent",
        "ALLUVIUM_WORKTREE": "/w/worktrees/t",
        "ALLUVIUM_BRANCH": "task/t",
        "ALLUVIUM_PROMPT_FILE": "/w/tasks/t/.agent/prompt.md",
    }

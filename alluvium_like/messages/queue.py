"""The merge queue: requests to agents to revise work, and questions to people about it."""

from collections.abc import Sequence

from alluvium_like.messages.layout import fenced, one_line
from alluvium_like.task import Task

FLAKE_REASON = "landed; a flake: its tests failed once and passed when the same commit ran again"


def conflict_reason(base_branch: str, paths: Sequence[str]) -> str:
    """Say in one line what a task conflicts with."""
    return f"conflicts with {base_branch} in {', '.join(paths[:5])}{' …' if len(paths) > 5 else ''}"


def conflict_request(
    base_branch: str, base: str, branch: str, tip: str, files: Sequence[tuple[str, str]]
) -> str:
    """Return the revision request for a conflict: every file with both sides in it."""
    return (
        "# Revision request: conflict\n\n"
        f"The base branch `{base_branch}` (at {base}) moved on and contradicts your branch "
        f"`{branch}` (at {tip}).\n\n"
        "The new base is being merged into your worktree; the files below are left with conflict "
        "markers (`<<<<<<<` your side, `=======`, `>>>>>>>` the base). Resolve them so that both "
        "intentions hold, run the tests, and commit to conclude the merge.\n"
        f"{_shown(files)}"
    )


def revert_input(task: Task) -> str:
    """Return what stands in the input folder of a revert."""
    return (
        f"# Take back: {one_line(task.name)}\n\n"
        f"Commit {task.merge_commit} of task {task.id} is to be taken back, as `git revert` would: "
        "take out what it brought, and keep what came after it.\n"
    )


def revert_request(name: str, commit: str, files: Sequence[tuple[str, str]]) -> str:
    """Return the request for a revert that later work stands in the way of."""
    return (
        "# Revision request: take a commit back\n\n"
        f"Commit {commit} ({one_line(name)}) is to be taken back, as `git revert` would, and "
        "later work stands in the way in the files below. Take out what the commit brought, keep "
        "what came after it, run the tests, and commit.\n"
        f"{_shown(files)}"
    )


def tests_reason(command: str, exit_text: str) -> str:
    """Say in one line which test failed."""
    return f"integration tests failed: {command} {exit_text}"


def tests_request(branch: str, base_branch: str, command: str, exit_text: str, tail: str) -> str:
    """Return the revision request for failed tests, with the end of their output."""
    return (
        "# Revision request: tests failed\n\n"
        f"Your branch `{branch}` merged into `{base_branch}` did not pass its tests; "
        f"`{base_branch}` without it passes them.\n\n"
        f"- command: `{command}`\n- result: {exit_text}\n\n"
        "Amend the branch so that the tests pass on the new base, which was merged into your "
        f"worktree, and commit.\n\n## End of the output\n\n{fenced(tail)}\n"
    )


def test_gone(name: str) -> str:
    """Say that a test which a task names is not there any more."""
    return (
        f"its work is to pass the test '{name}', which integration.optional_tests in config.toml "
        "no longer has"
    )


def unrelated(ours: str, theirs: str) -> str:
    """Say why it cannot even be tried to merge two commits."""
    return f"commits {ours[:12]} and {theirs[:12]} have no history in common"


def landed_question(branch: str, commit: str) -> str:
    """Ask what to do with work that has landed already, as it seems."""
    return (
        f"Commit {commit} on {branch} says that it is this task's work: somebody landed it by "
        "hand, or the daemon of another copy of this workspace did. Where that is so, cancel the "
        "task; where it is to be done once more, retry it."
    )


def landing_question(task_id: str) -> str:
    """Ask a person whether finished work may land whose settings say that one is to be asked."""
    return (
        f"The work is finished, and its settings ask for a person before it lands: see "
        f"'alluvium-like diff {task_id}'. 'approve' lets exactly this work land, 'reject' sends it "
        "back to the agent with your reason."
    )


def leave_question(paths: Sequence[str], task_id: str) -> str:
    """Ask a person whether work that touches protected paths may land."""
    shown = ", ".join(one_line(path) for path in paths[:10])
    return (
        f"The work touches protected paths: {shown}{' …' if len(paths) > 10 else ''}. "
        f"Look at it with 'alluvium-like diff {task_id}'; then 'approve' lets exactly this work "
        "land, and 'reject' with a reason sends it back to the agent."
    )


def escalation_question(reason: str, rounds: int) -> str:
    """Ask a person what to do after the revision rounds were used up."""
    return (
        f"After {rounds} revision rounds the work still cannot land: {reason}. "
        "Answer with advice for another try, or cancel the task."
    )


def _shown(files: Sequence[tuple[str, str]]) -> str:
    return "".join(f"\n## `{one_line(path)}`\n\n{fenced(text)}\n" for path, text in files)

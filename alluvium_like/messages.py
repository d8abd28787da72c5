"""The texts that people and agents read: commit messages, requests, questions, reasons."""

from collections.abc import Sequence
from datetime import timedelta
from typing import assert_never

from alluvium_like.lifecycle import AgentOutcome
from alluvium_like.task import Attempt, Task

TRAILER = "Task-Id"
NO_QUESTION = "The agent asks for a person and says no more; see the task's folder."
UNFINISHED = (
    "an earlier attempt was cut off, and the one that went on changed nothing and did not say that "
    "it is done: look at the branch, then 'answer' or 'cancel'"
)
FLAKE_REASON = "landed; a flake: its tests failed once and passed when the same commit ran again"
_SUBJECT_LENGTH = 72
_TRIED_AGAIN = "It is tried again by itself, and at once with 'alluvium-like resume'"


def commit_message(name: str, task_id: str, subject: str, summary: str) -> str:
    """Return the message of a landed commit; its last paragraph is the daemon's trailer alone."""
    first = _one_line(subject) or _one_line(summary) or _one_line(name)
    body = summary.strip() if _one_line(summary) != first else ""
    paragraphs = [first, f"Task: {_one_line(name)}", body, f"{TRAILER}: {task_id}"]
    return "\n\n".join(p for p in paragraphs if p) + "\n"


def revert_message(name: str, commit: str) -> str:
    """Return the message of the work of a revert."""
    return f"Revert {_one_line(name)}\n\nThis takes back commit {commit}.\n"


def base_merged_in(base_branch: str) -> str:
    """Return the message of the merge with which a revision starts."""
    return f"Merge {base_branch} before the next attempt"


def wrong_settings(task_id: str, problems: Sequence[str]) -> str:
    """Ask a person about a task whose settings cannot be taken as they are."""
    lines = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"The settings that came with this task are wrong:\n{lines}\n\nWhat is right in them "
        f"counts. Put the rest right with 'alluvium-like set {task_id} key=value', then start it "
        f"with 'alluvium-like retry {task_id}'; that alone starts it without."
    )


def cannot_begin(task_id: str, reason: str) -> str:
    """Ask a person about a task that cannot be begun as it is."""
    return (
        f"This task cannot be begun: {reason}. Change it with 'alluvium-like set {task_id} "
        f"key=value', or config.toml, then 'alluvium-like retry {task_id}'."
    )


def budget_reached(what: str, unresolved: str) -> str:
    """Say that an attempt was stopped by a budget, and what a person can do."""
    if unresolved:
        return (
            f"a budget is reached: {what}. {unresolved}: after an answer the conflict comes up "
            "again, and the agent is shown how far it was resolved"
        )
    return (
        f"a budget is reached: {what}. The work so far is kept; after an answer the agent goes on "
        "with it, once it may"
    )


def agent_fared(outcome: AgentOutcome, detail: str) -> str:
    """Say how an agent's program fared, for people."""
    match outcome:
        case AgentOutcome.OK:
            return "the agent was through"
        case AgentOutcome.AUTH:
            return f"the agent could not log in: {detail}; see 'alluvium-like agents'"
        case AgentOutcome.QUOTA:
            return f"the agent's provider refuses to go on for now: {detail}"
        case AgentOutcome.UNREACHABLE:
            return f"the agent's provider does not answer: {detail}"
        case AgentOutcome.STALL:
            return f"the agent got nowhere and was stopped ({detail})"
        case AgentOutcome.TIMED_OUT:
            return f"the agent was stopped at its deadline ({detail})"
        case AgentOutcome.CONTEXT:
            return f"the conversation no longer fits the agent's model: {detail}"
        case AgentOutcome.REFUSED:
            return f"the agent's model refuses this task: {detail}"
        case AgentOutcome.CRASHED:
            return f"the agent failed: {detail}" if detail else "the agent failed"
        case _:
            assert_never(outcome)


def refused_again(times: int, detail: str) -> str:
    """Say that it seems to be the task that an agent's provider does not take."""
    return (
        f"the agent's provider refused this task {times} times in a row, and worked for others "
        f"meanwhile: {detail}; 'retry' has it tried again, another agent may do better"
    )


def out_of_time(seconds: float) -> str:
    """Say that an attempt was stopped at its deadline."""
    return f"ran longer than {seconds:g} s"


def refused_all_the_time(seconds: float) -> str:
    """Say why a program was stopped that tried again and again."""
    return f"its provider refused it again and again for {seconds:.0f} s"


def earlier_attempt(attempt: Attempt) -> str:
    """Return the note about an attempt that the next one finds beside its results."""
    number, how = attempt.number, " ".join(attempt.reason.split()) or "the agent was through"
    left = f"What it left is the commit `{attempt.end_commit}`.\n\n" if attempt.end_commit else ""
    return (
        f"# Attempt {number}\n\nBy the agent `{attempt.agent or 'default'}`, begun at "
        f"{attempt.started_at}, ended at {attempt.ended_at}.\n\nIt came to: {how}\n\n"
        f"{left}What it said and did is in `.system/attempts/{number}/` of the task's folder: "
        "stdout.log, stderr.log and, where its program tells of itself, transcript.jsonl.\n"
    )


def input_changed(what: str, first: str, last: str, others: Sequence[str], own: bool) -> str:
    """Say that what a task was given is not what was dropped, when, and who may have done it."""
    when = f"at {first}" if first == last else f"between {first} and {last}"
    if others:
        agents = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if others[5:] else "")
        who = f"{agents} ran then, and its own agent" if own else f"{agents} ran then"
    else:
        who = "no agent ran then"
    return (
        f"somebody changed {what} {when}, after it was claimed; {who}. Look at it: 'retry' takes "
        "it as it is now, else 'cancel'"
    )


def folder_gone(task_id: str) -> str:
    """Say that what an agent said of its work cannot be read, and why."""
    return (
        f"tasks/{task_id} was moved away, removed or replaced while its agent ran: what the agent "
        "said there is not known. Put it back: 'retry' then begins again, 'answer' goes on with "
        "its branch; else 'cancel'"
    )


def clock_moved(by: timedelta) -> str:
    """Say why nothing is removed because of its age."""
    hours = abs(by) / timedelta(hours=1)
    much = f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
    way = "ahead" if by > timedelta() else "back"
    return (
        f"the clock was set {much} {way}: nothing is removed because of its age until it has gone "
        "on steadily for a day; 'alluvium-like gc' removes it at once"
    )


def conflict_reason(base_branch: str, paths: Sequence[str]) -> str:
    """Say in one line what a task conflicts with."""
    return f"conflicts with {base_branch} in {', '.join(paths[:5])}{' …' if len(paths) > 5 else ''}"


def conflict_request(
    base_branch: str, base: str, branch: str, tip: str, files: Sequence[tuple[str, str]]
) -> str:
    """Return the revision request for a conflict: every file with both sides in it."""
    parts = [
        "# Revision request: conflict\n\n"
        f"The base branch `{base_branch}` (at {base}) moved on and contradicts your branch "
        f"`{branch}` (at {tip}).\n\n"
        "The new base is being merged into your worktree; the files below are left with conflict "
        "markers (`<<<<<<<` your side, `=======`, `>>>>>>>` the base). Resolve them so that both "
        "intentions hold, run the tests, and commit to conclude the merge.\n"
    ]
    for path, text in files:
        parts.append(f"\n## `{_one_line(path)}`\n\n{_fenced(text)}\n")
    return "".join(parts)


def revert_input(task: Task) -> str:
    """Return what stands in the input folder of a revert."""
    return (
        f"# Take back: {_one_line(task.name)}\n\n"
        f"Commit {task.merge_commit} of task {task.id} is to be taken back, as `git revert` would: "
        "take out what it brought, and keep what came after it.\n"
    )


def revert_request(name: str, commit: str, files: Sequence[tuple[str, str]]) -> str:
    """Return the request for a revert that later work stands in the way of."""
    parts = [
        "# Revision request: take a commit back\n\n"
        f"Commit {commit} ({_one_line(name)}) is to be taken back, as `git revert` would, and "
        "later work stands in the way in the files below. Take out what the commit brought, keep "
        "what came after it, run the tests, and commit.\n"
    ]
    for path, text in files:
        parts.append(f"\n## `{_one_line(path)}`\n\n{_fenced(text)}\n")
    return "".join(parts)


def upstream_summary(title: str) -> str:
    """Return the first line of the commit that merges what others pushed."""
    return f"Merge what others pushed to {title}"


def upstream_input(title: str, base_branch: str, tip: str) -> str:
    """Return what stands in the input folder of a task that merges what others pushed."""
    return (
        f"# {upstream_summary(title)}\n\n"
        f"Others pushed commit {tip} while `{base_branch}` moved on here. Both histories are to be "
        "kept: the branch of this task starts at their commit, and the base is merged into it. "
        "Where the two contradict each other, resolve it so that both intentions hold, and commit "
        "the merge. Never reset, rebase or squash: their commits must stay in the history.\n"
    )


def upstream_lost(title: str, tip: str) -> str:
    """Say that work that was to merge what others pushed has lost it."""
    return (
        f"it no longer holds {tip[:12]}, which others pushed to {title}, in its history, so it "
        "could never be pushed; the commit has to be merged, not rewritten"
    )


def not_pushed(title: str, reason: str) -> str:
    """Say why the base is not pushed, and what will be done about it."""
    return f"{title} cannot be brought up to date: {reason}. {_TRIED_AGAIN}"


def upstream_waits(title: str, reason: str) -> str:
    """Say why what others pushed is not on the base yet."""
    return f"{title} has new commits, and taking them up waits: {reason}. {_TRIED_AGAIN}"


def upstream_rewritten(title: str, base_branch: str) -> str:
    """Ask a person what to do about a remote branch that lost commits that the base holds."""
    return (
        f"{title} was rewritten or deleted by others: it no longer holds commits that "
        f"{base_branch} holds, or that a task is merging. Nothing is pushed or taken up until you "
        f"have decided: push {base_branch} yourself to bring them back, or let {base_branch} "
        "follow with 'git fetch' and 'git reset', and cancel that task"
    )


def base_rewritten(title: str, base_branch: str) -> str:
    """Ask a person what to do about a base that lost commits that were pushed."""
    return (
        f"{base_branch} was rewritten here: it no longer holds commits that were pushed to {title}."
        f" Nothing is pushed or taken up until you have decided: push it yourself with "
        f"'git push --force-with-lease', or let {base_branch} follow with 'git reset'"
    )


def upstream_unrelated(title: str, base_branch: str) -> str:
    """Ask a person what to do about a remote branch that cannot be merged."""
    return (
        f"{title} and {base_branch} have no commit in common, so neither is pushed nor taken up; "
        "is it the right remote? Else merge them yourself"
    )


def unrelated(ours: str, theirs: str) -> str:
    """Say why it cannot even be tried to merge two commits."""
    return f"commits {ours[:12]} and {theirs[:12]} have no history in common"


def upstream_unmerged(title: str, task_id: str, state: str) -> str:
    """Say which task has to be dealt with before the base can be pushed."""
    return (
        f"{title} has commits that contradict the base, and {task_id}, which is to merge them, is "
        f"{state}: 'approve', 'answer' or 'retry' it, or merge them yourself"
    )


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


def test_gone(name: str) -> str:
    """Say that a test which a task names is not there any more."""
    return (
        f"its work is to pass the test '{name}', which integration.optional_tests in config.toml "
        "no longer has"
    )


def leave_question(paths: Sequence[str], task_id: str) -> str:
    """Ask a person whether work that touches protected paths may land."""
    shown = ", ".join(_one_line(path) for path in paths[:10])
    return (
        f"The work touches protected paths: {shown}{' …' if len(paths) > 10 else ''}. "
        f"Look at it with 'alluvium-like diff {task_id}'; then 'approve' lets exactly this work "
        "land, and 'reject' with a reason sends it back to the agent."
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
        f"worktree, and commit.\n\n## End of the output\n\n{_fenced(tail)}\n"
    )


def escalation_question(reason: str, rounds: int) -> str:
    """Ask a person what to do after the revision rounds were used up."""
    return (
        f"After {rounds} revision rounds the work still cannot land: {reason}. "
        "Answer with advice for another try, or cancel the task."
    )


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0][:_SUBJECT_LENGTH] if lines else ""


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text.rstrip()}\n{fence}"

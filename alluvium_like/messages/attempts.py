"""Attempts: why one cannot begin, what it came to, and what the next one is told of it."""

from collections.abc import Sequence
from typing import assert_never

from alluvium_like.lifecycle import AgentOutcome
from alluvium_like.task import Attempt

NO_QUESTION = "The agent asks for a person and says no more; see the task's folder."
UNFINISHED = (
    "an earlier attempt was cut off, and the one that went on changed nothing and did not say that "
    "it is done: look at the branch, then 'answer' or 'cancel'"
)


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

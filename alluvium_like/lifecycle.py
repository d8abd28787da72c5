"""The law of a task's life: states, legal transitions, and what an attempt's end means.

Pure: facts in, a closed enum out. The store is the only writer of states and asks `TRANSITIONS`;
`judge_attempt` is the table of the design, and nothing an agent writes can add a row to it.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a task stands; one vocabulary in code, store, command line and docs."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    WORKER_DONE = "worker_done"
    INTEGRATING = "integrating"
    NEEDS_REVISION = "needs_revision"
    NEEDS_HUMAN = "needs_human"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """How a done task ended."""

    MERGED = "merged"
    NOOP = "noop"


class TaskKind(StrEnum):
    """Where a task comes from: the inbox, a landed task to take back, what others pushed."""

    ITEM = "item"
    REVERT = "revert"
    UPSTREAM = "upstream"


_S = State
TRANSITIONS: dict[State, frozenset[State]] = {
    _S.WAITING: frozenset({_S.QUEUED, _S.NEEDS_HUMAN, _S.CANCELLED}),
    _S.QUEUED: frozenset({_S.RUNNING, _S.NEEDS_HUMAN, _S.CANCELLED}),
    _S.RUNNING: frozenset(
        {
            _S.WORKER_DONE,
            _S.DONE,
            _S.NEEDS_HUMAN,
            _S.FAILED,
            _S.QUEUED,
            _S.CANCELLED,
        }
    ),
    _S.WORKER_DONE: frozenset({_S.INTEGRATING, _S.NEEDS_HUMAN, _S.CANCELLED}),
    _S.INTEGRATING: frozenset(
        {_S.DONE, _S.NEEDS_REVISION, _S.NEEDS_HUMAN, _S.WORKER_DONE, _S.CANCELLED}
    ),
    _S.NEEDS_REVISION: frozenset({_S.RUNNING, _S.NEEDS_HUMAN, _S.CANCELLED}),
    _S.NEEDS_HUMAN: frozenset({_S.QUEUED, _S.WORKER_DONE, _S.CANCELLED}),
    _S.FAILED: frozenset({_S.QUEUED, _S.CANCELLED}),
    _S.CANCELLED: frozenset({_S.QUEUED, _S.WORKER_DONE}),
    _S.DONE: frozenset(),
}
ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})
"""States in which nothing more happens unless a person says so."""
ACTIVE = frozenset(State) - ENDED - {State.NEEDS_HUMAN, State.WAITING}
"""States in which the daemon has something to do."""


class CheckpointKind(StrEnum):
    """What a person is asked for: advice to the agent, or leave to land what it did."""

    QUESTION = "question"
    APPROVAL = "approval"


class LandingState(StrEnum):
    """Where a landing in the journal stands: begun, in the way of something, or over."""

    PREPARED = "prepared"
    BLOCKED = "blocked"
    LANDED = "landed"
    VOID = "void"


class Ending(StrEnum):
    """Why the supervised process of an attempt is no more."""

    EXITED = "exited"
    TIMED_OUT = "timed_out"
    STALLED = "stalled"  # neither output nor processor time for too long
    BUDGET = "budget"  # used as much as it may
    NOT_STARTED = "not_started"
    HELD = "held"  # not started, or not believed: somebody else had a hand in its folder
    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"
    LOST = "lost"  # the daemon died; found at the next start
    MACHINE = "machine"  # lacked room, processes, the store; not the agent's doing


class AgentOutcome(StrEnum):
    """How the agent program itself fared, by its exit and what it told; Git shows the work."""

    OK = "ok"
    CRASHED = "crashed"
    STALL = "stall"
    TIMED_OUT = "timed_out"
    CONTEXT = "context"  # the conversation no longer fits the model
    REFUSED = "refused"  # the model will not do it
    AUTH = "auth"  # nobody is logged in, or the key is wrong
    QUOTA = "quota"  # used up, or too many requests: later it goes on
    UNREACHABLE = "unreachable"  # the provider does not answer, or says that it cannot


PARKING = frozenset({AgentOutcome.AUTH, AgentOutcome.QUOTA, AgentOutcome.UNREACHABLE})
"""Outcomes that are about the profile and not about the task: it waits, and its attempt does not
count."""


class Claim(StrEnum):
    """What the agent says of itself in result.json; a claim, not a fact."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NEEDS_HUMAN = "needs_human"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """What the daemon saw of an ended attempt.

    `changed`: the branch differs from where the attempt started.
    `continued`: the branch held work of an earlier attempt when this one started.
    `problem`: a reason found in Git for which the work cannot be taken as it is, for a person.
    `outcome` is what the program's own telling came to; it is `ok` where nobody reads that.
    `unfinished`: that work is of an attempt that was cut off, and nobody was through with it since.
    `provoked`: its agent's provider has refused this task again and again, and did work for others.
    """

    ending: Ending
    exit_code: int | None
    claim: Claim
    asked_human: bool
    changed: bool
    continued: bool
    problem: str = ""
    outcome: AgentOutcome = AgentOutcome.OK
    unfinished: bool = False
    provoked: bool = False


class AttemptVerdict(StrEnum):
    """What follows from an attempt's end."""

    TO_INTEGRATOR = "to_integrator"
    NOOP = "noop"
    ASK_HUMAN = "ask_human"
    FAILED = "failed"
    RETRY = "retry"
    AGAIN_UNCOUNTED = "again_uncounted"
    CANCELLED = "cancelled"


def judge_attempt(facts: AttemptFacts) -> AttemptVerdict:
    """Apply the table of attempt ends; the order of the rows is their precedence."""
    if facts.ending is Ending.CANCELLED:
        return AttemptVerdict.CANCELLED
    if facts.ending in (Ending.SHUTDOWN, Ending.LOST, Ending.MACHINE):
        return AttemptVerdict.AGAIN_UNCOUNTED
    if facts.ending in (Ending.HELD, Ending.BUDGET):
        return AttemptVerdict.ASK_HUMAN
    if facts.outcome in PARKING:
        asks = facts.problem or facts.provoked
        return AttemptVerdict.ASK_HUMAN if asks else AttemptVerdict.AGAIN_UNCOUNTED
    if facts.outcome is AgentOutcome.REFUSED:
        return AttemptVerdict.ASK_HUMAN
    if facts.ending is not Ending.EXITED or facts.exit_code != 0:
        return AttemptVerdict.RETRY
    if facts.outcome is not AgentOutcome.OK:
        return AttemptVerdict.RETRY
    if facts.asked_human or facts.claim is Claim.NEEDS_HUMAN:
        return AttemptVerdict.ASK_HUMAN
    if facts.claim is Claim.FAILED:
        return AttemptVerdict.FAILED
    if facts.problem:
        return AttemptVerdict.ASK_HUMAN
    if facts.unfinished and not facts.changed and facts.claim is not Claim.SUCCEEDED:
        return AttemptVerdict.ASK_HUMAN
    if facts.changed or facts.continued:
        return AttemptVerdict.TO_INTEGRATOR
    return AttemptVerdict.NOOP


class Condition(StrEnum):
    """What may hold for the daemon as a whole; `status` shows it with its reason.

    None of it is trouble of the machine: that is never stored, see `trouble`.
    """

    PAUSED = "paused"
    BASE_RED = "base_red"
    ESCAPE = "escape"  # something changed that no agent may touch
    INTAKE = "intake"
    CLOCK = "clock"
    LANE = "lane"
    UPSTREAM = "upstream"
    UNBOXED = "unboxed"

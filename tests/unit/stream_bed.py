"""Recorded streams of agent programs, and a run that reads one: what the tests of adapters share.

`streams/<program>/<case>.txt` is what a program printed, trimmed; lines that begin with `! ` are of
its standard error. A trajectory of mini-swe-agent lies beside it. The clock stands still at NOW. A
further program or case is one more line below.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from alluvium_like.agents import complaints, record
from alluvium_like.agents.adapters import ADAPTERS, claude, codex
from alluvium_like.agents.adapters.base import Call
from alluvium_like.agents.events import Usage
from alluvium_like.agents.outcome import Judged, judge
from alluvium_like.agents.record import Record
from alluvium_like.execution.process import RunEnd
from alluvium_like.lifecycle import AgentOutcome, Ending

STREAMS = Path(__file__).parent / "streams"
NOW = 1_795_285_000.0
PROMPT = 'Say "hello" \\ to 日本 😀\x7f\n'
OK, CRASHED, CUT = AgentOutcome.OK, AgentOutcome.CRASHED, AgentOutcome.TIMED_OUT
AUTH, QUOTA, UNREACHABLE = AgentOutcome.AUTH, AgentOutcome.QUOTA, AgentOutcome.UNREACHABLE
CONTEXT, REFUSED = AgentOutcome.CONTEXT, AgentOutcome.REFUSED
NONE, ONE, TWO, THREE = ((n * 1234, n * 200, n * 56) for n in range(4))  # requests
WORK = "usage tool_call"
BY_CLOCK = -1.0
"""A limit's end that a test of its own is for: it is told as a clock of this machine shows it."""


@dataclass(frozen=True)
class Case:
    """A run: its exit (None: it was ended at its deadline), and what it is to come to.

    `tokens`: input, cached, output. `kinds`: what the transcript holds. `back`: in how many seconds
    a limit ends, None where nobody says.
    """

    program: str
    name: str
    code: int | None
    outcome: AgentOutcome
    tokens: tuple[int, int, int]
    kinds: str
    back: float | None = None
    burst: bool = False

    def __str__(self) -> str:
        return f"{self.program}-{self.name}"


CASES = [
    Case("codex", "ok", 0, OK, THREE, "session tool_call message usage end"),
    Case("codex", "resume", 0, OK, (7404, 1200, 336), "session tool_call message usage end"),
    Case("codex", "rate-two", 0, OK, THREE, "session limit tool_call tool_call message usage end"),
    Case("codex", "late", 1, CRASHED, NONE, "session tool_call error end"),
    Case("codex", "broken", 1, CRASHED, NONE, "session error end"),
    Case("codex", "nothing", 1, UNREACHABLE, NONE, "session error end"),
    Case("codex", "nothing-defaults", None, UNREACHABLE, NONE, "session error"),
    Case("codex", "lookup", None, UNREACHABLE, NONE, "session error"),
    Case("codex", "server_error", 1, UNREACHABLE, NONE, "session error end"),
    Case("codex", "unauthorized", 1, AUTH, NONE, "session error end"),
    Case("codex", "unauthorized-default", 1, AUTH, NONE, "session error error error end"),
    Case("codex", "unauthorized-nokey", 1, AUTH, NONE, "session error end"),
    Case("codex", "burst", 1, QUOTA, NONE, "session limit end", burst=True),
    Case("codex", "quota", 1, QUOTA, NONE, "session limit end", back=BY_CLOCK),
    Case("codex", "quota-far", 1, QUOTA, NONE, "session limit end", back=BY_CLOCK),
    Case("codex", "credit", 1, QUOTA, NONE, "session limit end"),
    Case("codex", "no_money", 1, QUOTA, NONE, "session limit end"),
    Case("codex", "wait", None, QUOTA, NONE, "session limit", back=3600),
    Case("codex", "context", 1, CONTEXT, NONE, "session error end"),
    Case("codex", "refused", 1, REFUSED, NONE, "session message error end"),
    Case("codex", "endless", None, CUT, NONE, "session"),
    Case("claude", "ok-partial", 0, OK, THREE,
         f"session {WORK} usage {WORK} usage usage message usage usage end"),
    Case("claude", "resume", 0, OK, THREE, "session tool_call tool_call message usage end"),
    Case("claude", "rate", 0, OK, THREE, "session limit tool_call tool_call message usage end"),
    Case("claude", "late", 1, CRASHED, ONE, "session tool_call usage error end"),
    Case("claude", "broken", 1, CRASHED, NONE, "session error end"),
    Case("claude", "nothing", 1, UNREACHABLE, NONE, "session error error end"),
    Case("claude", "nothing-defaults", None, UNREACHABLE, NONE, "session error"),
    Case("claude", "server_error", 1, UNREACHABLE, NONE, "session error error end"),
    Case("claude", "unauthorized", 1, AUTH, NONE, "session error end"),
    Case("claude", "unauthorized-nokey", 1, AUTH, NONE, "session error end"),
    Case("claude", "burst", 1, QUOTA, NONE, "session limit limit end", burst=True),
    Case("claude", "burst-oauth", 1, QUOTA, NONE, "session limit end", burst=True),
    Case("claude", "quota", 1, QUOTA, NONE, "session limit end"),
    Case("claude", "quota-oauth", 1, QUOTA, NONE, "session limit limit end", back=4008),
    Case("claude", "credit", 1, QUOTA, NONE, "session limit end"),
    Case("claude", "no_money", 1, QUOTA, NONE, "session limit end"),
    Case("claude", "empty", 1, UNREACHABLE, NONE, "session error end"),
    Case("claude", "context", 1, CONTEXT, NONE, "session error end"),
    Case("claude", "refused", 1, REFUSED, ONE, "session message error usage error end"),
    Case("claude", "endless-partial", None, CUT, (1234, 200, 0), "session usage"),
    Case("claude", "term", None, CUT, NONE, "session tool_call"),
    Case("claude", "resume-move", 1, CRASHED, NONE, "error end"),
    Case("pi", "ok", 0, OK, THREE, f"session {WORK} {WORK} usage message end"),
    Case("pi", "ok-anthropic", 0, OK, THREE, f"session {WORK} {WORK} usage message end"),
    Case("pi", "resume", 0, OK, THREE, f"session {WORK} {WORK} usage message end"),
    Case("pi", "rate", 0, OK, THREE, f"session limit {WORK} {WORK} usage message end"),
    Case("pi", "late", 0, CRASHED, ONE, "session usage tool_call error end"),
    Case("pi", "broken", 0, CRASHED, NONE, "session error end"),
    Case("pi", "nothing", 0, UNREACHABLE, NONE, "session error end"),
    Case("pi", "server_error", 0, UNREACHABLE, NONE, "session error end"),
    Case("pi", "unauthorized", 0, AUTH, NONE, "session error end"),
    Case("pi", "no_key", 1, AUTH, NONE, "session error"),
    Case("pi", "burst", 0, QUOTA, NONE, "session limit end", back=2, burst=True),
    Case("pi", "quota", 0, QUOTA, NONE, "session limit limit end", back=3594),
    Case("pi", "credit", 0, QUOTA, NONE, "session limit end"),
    Case("pi", "no_money", 0, QUOTA, NONE, "session limit end"),
    Case("pi", "empty", 0, UNREACHABLE, NONE, "session error end"),
    Case("pi", "context", 0, CONTEXT, NONE, "session error"),
    Case("pi", "refused", 0, REFUSED, ONE, "session usage message error end"),
    Case("pi", "endless", None, CUT, NONE, "session"),
    Case("pi", "term", None, CUT, ONE, "session usage tool_call"),
    Case("pi", "resume-move", 1, CRASHED, NONE, ""),
    Case("mini-swe-agent", "ok", 0, OK, THREE, f"{WORK} {WORK} {WORK} end"),
    Case("mini-swe-agent", "rate-three", 0, OK, THREE, f"limit {WORK} {WORK} {WORK} end"),
    Case("mini-swe-agent", "late", 1, CRASHED, ONE, "usage tool_call error end"),
    Case("mini-swe-agent", "nothing", 1, UNREACHABLE, NONE, "error end"),
    Case("mini-swe-agent", "nothing-defaults", None, UNREACHABLE, NONE, "error"),
    Case("mini-swe-agent", "server_error", 1, UNREACHABLE, NONE, "error end"),
    Case("mini-swe-agent", "unauthorized", 1, AUTH, NONE, "error end"),
    Case("mini-swe-agent", "forbidden", 1, AUTH, NONE, "error error end"),
    Case("mini-swe-agent", "burst", 1, QUOTA, NONE, "limit end", back=2, burst=True),
    Case("mini-swe-agent", "quota", 1, QUOTA, NONE, "limit end", back=3582),
    Case("mini-swe-agent", "credit", 1, QUOTA, NONE, "limit end"),
    Case("mini-swe-agent", "context", 1, CONTEXT, NONE, "error end"),
    Case("mini-swe-agent", "refused", 0, REFUSED, THREE,
         "usage message error usage message error usage message error error end"),
    Case("mini-swe-agent", "endless", None, CUT, NONE, ""),
    Case("gemini", "broken_after", 1, CRASHED, ONE, "session tool_call message usage error end"),
    Case("gemini", "context", 144, CONTEXT, NONE, "session usage error end"),
    Case("gemini", "endless", 0, CRASHED, NONE, "session message error usage end"),
    Case("gemini", "no_key", 41, AUTH, NONE, "error"),
    Case("gemini", "nothing", 1, UNREACHABLE, NONE, "session usage error end"),
    Case("gemini", "ok", 0, OK, TWO, "session tool_call message usage end"),
    Case("gemini", "quota", 173, QUOTA, NONE, "session usage limit end limit", back=7195),
    Case("gemini", "quota_none", 173, QUOTA, NONE, "session usage limit end"),
    Case("gemini", "no_money", 146, QUOTA, NONE, "session usage limit end"),
    Case("gemini", "rate_limited", 0, OK, TWO, "session limit tool_call message usage end"),
    Case("gemini", "refused", 0, OK, ONE, "session message usage end"),
    Case("gemini", "resume", 0, OK, TWO, "session tool_call message usage end"),
    Case("gemini", "resume_unknown", 42, CRASHED, NONE, "error"),
    Case("gemini", "server_error", 0, UNREACHABLE, NONE, "session error error"),
    Case("gemini", "term", None, CUT, NONE, "session tool_call"),
    Case("gemini", "unauthorized", 144, AUTH, NONE, "session usage error end"),
    Case("opencode", "broken", None, CRASHED, NONE, "error"),
    Case("opencode", "broken_after", None, CRASHED, ONE, "session tool_call usage error"),
    Case("opencode", "broken_given_up", 1, CRASHED, ONE, "session tool_call usage error error end"),
    Case("opencode", "context", 1, CONTEXT, NONE, "session error error error end"),
    Case("opencode", "nothing", None, UNREACHABLE, NONE, "error"),
    Case("opencode", "ok", 0, OK, TWO, "session tool_call usage message usage end"),
    Case("opencode", "quota", None, QUOTA, NONE, "limit", back=7179),
    Case("opencode", "quota_none", None, QUOTA, NONE, "limit"),
    Case("opencode", "no_money", 1, QUOTA, NONE, "limit session limit end"),
    Case("opencode", "empty", None, UNREACHABLE, NONE, "session error end"),
    Case("opencode", "rate_limited", 0, OK, TWO, "limit session tool_call usage message usage end"),
    Case("opencode", "refused", 1, REFUSED, ONE, "session message usage error end"),
    Case("opencode", "resume", 0, OK, TWO, "session tool_call usage message usage end"),
    Case("opencode", "resume_unknown", 1, CRASHED, NONE, "error"),
    Case("opencode", "server_error", None, UNREACHABLE, NONE, "error"),
    Case("opencode", "term", None, CUT, NONE, "session"),
    Case("opencode", "unauthorized", 1, AUTH, NONE, "session error error end"),
    Case("qwen", "broken", 0, CRASHED, NONE, "session error end"),
    Case("qwen", "broken_after", 0, CRASHED, ONE, "session tool_call usage message error end"),
    Case("qwen", "context", 0, CONTEXT, NONE, "session error end"),
    Case("qwen", "no_key", 1, AUTH, NONE, "error end"),
    Case("qwen", "nothing", 0, UNREACHABLE, NONE, "session error end"),
    Case("qwen", "ok", 0, OK, TWO, "session tool_call usage message usage end"),
    Case("qwen", "quota", 0, QUOTA, NONE, "session limit end", back=7109),
    Case("qwen", "no_money", 0, QUOTA, NONE, "session limit end"),
    Case("qwen", "refused", 0, OK, ONE, "session message usage end"),
    Case("qwen", "resume", 0, OK, TWO, "session tool_call usage message usage end"),
    Case("qwen", "resume_unknown", 1, CRASHED, NONE, "error"),
    Case("qwen", "server_error", 0, UNREACHABLE, NONE, "session error end"),
    Case("qwen", "term", None, CUT, ONE, "session tool_call usage"),
    Case("qwen", "unauthorized", 0, AUTH, NONE, "session error end"),
    Case("aider", "broken", None, UNREACHABLE, NONE, "error end"),
    Case("aider", "broken_begun", None, CRASHED, NONE, "error end"),
    Case("aider", "context", 0, CONTEXT, (1900, 0, 0), "session usage error end"),
    Case("aider", "no_key", 0, AUTH, NONE, "error end"),
    Case("aider", "not_applied", 0, CRASHED, (1200, 0, 56), "session message usage error end"),
    Case("aider", "not_understood", 0, CRASHED, (4800, 0, 224),
         "session message usage message usage message usage message usage error end"),
    Case("aider", "ok", 0, OK, (1200, 0, 56), "session message usage file_change end"),
    Case("aider", "quota", 0, QUOTA, NONE, "limit end", back=7187),
    Case("aider", "quota_none", None, QUOTA, NONE, "limit end"),
    Case("aider", "refused", 0, OK, (1200, 0, 56), "session message usage end"),
    Case("aider", "resume", 0, OK, (1200, 0, 56), "session message usage file_change end"),
    Case("aider", "server_error", None, UNREACHABLE, NONE, "error end"),
    Case("aider", "term", None, CUT, NONE, ""),
    Case("aider", "unauthorized", 0, AUTH, NONE, "error end"),
    Case("aider", "empty", None, UNREACHABLE, NONE, "error end"),
    Case("aider", "forbidden", None, AUTH, NONE, "error end"),
]  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What a run came to: how it was judged, what was noted, and the kinds in its transcript."""

    judged: Judged
    record: Record
    kinds: str

    @property
    def usage(self) -> Usage:
        """What it has used."""
        return self.record.usage


def call_in(folder: Path) -> Call:
    """Return a call of which everything lies in a folder."""
    agent = folder / "agent"
    agent.mkdir(exist_ok=True)
    home = {"HOME": str(folder / "home")}
    return Call(folder / "tree", PROMPT, agent / "prompt.md", agent / "sessions", environment=home)


def lines_of(program: str, name: str, call: Call | None = None) -> list[str]:
    """Return a stream's lines; a trajectory that belongs to it is put where `call` reads it."""
    trajectory = STREAMS / program / f"{name}.json"
    if call is not None and trajectory.exists():
        call.home.mkdir(exist_ok=True)
        shutil.copy(trajectory, call.home / "trajectory.json")
    return (STREAMS / program / f"{name}.txt").read_text().splitlines()


def run(program: str, lines: Iterable[object], call: Call, code: int | None = 0) -> Told:
    """Take a stream as a run takes it, and judge it; an object is a line of JSON."""
    transcript = call.home.with_name("transcript.jsonl")
    transcript.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patched:
        for module in (complaints, claude, codex, record):
            patched.setattr(module, "time_of_day", lambda: NOW)
        told = Record(ADAPTERS[program].reader(call), transcript, lambda _: None)
        for line in lines:
            take(told, line)
        told.finish()
    ending = Ending.TIMED_OUT if code is None else Ending.EXITED
    judged = judge(RunEnd(ending, code, "it exited", 0.0, 0), told)
    kept = transcript.read_text().splitlines() if transcript.exists() else []
    return Told(judged, told, " ".join(json.loads(line)["kind"] for line in kept))


def take(told: Record, line: object) -> None:
    """Take one line, which is of the standard error where it begins with `! `."""
    raw = line if isinstance(line, str | bytes) else json.dumps(line)
    data = raw.encode() if isinstance(raw, str) else raw
    told.take_line(data.removeprefix(b"! "), error=data.startswith(b"! "))

"""What `agents test NAME` does: a one-line task in a scratch repository, told in words.

It runs as an attempt would, with the same environment, adapter and judgement, but outside the
daemon: nothing of the workspace is touched, and what it uses is not counted.
"""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from alluvium_like import messages
from alluvium_like.agents.adapters.base import Call
from alluvium_like.agents.command import AttemptPlaces
from alluvium_like.agents.events import Usage
from alluvium_like.agents.outcome import Judged, judge_exit, judge_run
from alluvium_like.agents.prices import cost_of
from alluvium_like.agents.record import Record
from alluvium_like.config import Config, load_config
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.marker import RunKind, RunMarker
from alluvium_like.execution.process import RunEnd, RunSpec, StopRequest, run_supervised
from alluvium_like.gitrepo.owner import create_repository
from alluvium_like.lifecycle import AgentOutcome
from alluvium_like.stages.dispatch.worker import Worker, adapter_of, environment_of
from alluvium_like.surface.agents import find_profile
from alluvium_like.workspace import Workspace

_FILE: Final = "hello.txt"
_PROMPT: Final = (
    f"Write a file named {_FILE} that holds the one line 'hello' into the current folder, and "
    "commit it with git. Do nothing else.\n"
)
_GRACE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Trial:
    """How it went; `wrote`: the file is there as it was asked for."""

    agent: str
    outcome: AgentOutcome
    wrote: bool
    words: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the agent did what it was asked for."""
        return self.outcome is AgentOutcome.OK and self.wrote

    def document(self) -> dict[str, object]:
        """Return the shape that scripts rely on."""
        return {
            "agent": self.agent,
            "passed": self.passed,
            "outcome": self.outcome,
            "wrote": self.wrote,
            "words": list(self.words),
        }


def try_agent(workspace: Workspace, name: str) -> Trial:
    """Let an agent do the task. Raises ConfigError, UsageError or RepositoryError."""
    config = load_config(workspace.config_file)
    find_profile(config, name)
    folder = Path(tempfile.mkdtemp(prefix="alluvium-like-test-"))
    try:
        return anyio.run(_try, config, name, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _try(config: Config, name: str, folder: Path) -> Trial:
    profile = config.profiles[name]
    repo = folder / "repo"
    create_repository(repo, config.git.author_name, config.git.author_email)
    worker = _worker(config, name, repo, folder)
    usage = Usage()

    def told(so_far: Usage) -> None:
        nonlocal usage
        usage = so_far

    record = None
    if worker.adapter is not None:
        record = Record(worker.adapter.reader(worker.call), folder / "transcript.jsonl", told)
    spec = RunSpec(
        argv=[],
        cwd=repo,
        environment={},
        marker=RunMarker("test", RunKind.ATTEMPT, name, 1),
        stdout_path=folder / "stdout.log",
        stderr_path=folder / "stderr.log",
        output_limit_bytes=profile.output_limit_bytes,
        timeout_seconds=profile.timeout_seconds,
        stall_seconds=profile.stall_seconds,
        grace_seconds=_GRACE_SECONDS,
    )

    async def started(_: ProcessIdentity) -> None:
        """There is no row to store it in."""

    filled = await to_thread.run_sync(worker.fill, spec, record)
    end = await run_supervised(filled, on_started=started, stop=StopRequest())
    if record is not None:
        record.finish()
    judged = _judge(end, worker, record)
    wrote = (repo / _FILE).is_file() and (repo / _FILE).read_text(errors="replace") == "hello\n"
    words = (
        f"ran for {end.duration_seconds:.1f} s: "
        f"{messages.agent_fared(judged.outcome, judged.reason)}",
        _what_git_shows(repo, wrote=wrote),
        _what_it_used(config, usage, profile.model),
        *_last_lines(folder / "stderr.log", judged),
    )
    return Trial(name, judged.outcome, wrote, tuple(filter(None, words)))


def _worker(config: Config, name: str, repo: Path, folder: Path) -> Worker:
    profile = config.profiles[name]
    prompt_file = folder / "prompt.md"
    prompt_file.write_text(_PROMPT, encoding="utf-8")
    places = AttemptPlaces("test", folder, folder, repo, "main", prompt_file)
    environment = environment_of(profile, places)
    call = Call(
        worktree=repo,
        prompt=_PROMPT,
        prompt_file=prompt_file,
        home=folder / "sessions",
        arguments=profile.arguments,
        model=profile.model,
        environment=environment,
    )
    return Worker(name, profile, adapter_of(profile), places, call, "", environment)


def _judge(end: RunEnd, worker: Worker, record: Record | None) -> Judged:
    if record is None or worker.adapter is None:
        return judge_exit(end.ending, end.exit_code, end.reason)
    needs_end = worker.adapter.needs_end
    return judge_run(end.ending, end.exit_code, record, needs_end=needs_end, words=end.reason)


def _what_git_shows(repo: Path, *, wrote: bool) -> str:
    if not wrote:
        return f"{_FILE} was not written as it was asked for"
    log = subprocess.run(
        ["git", "log", "--format=%s", "--", _FILE],
        cwd=repo,
        capture_output=True,
        text=True,
        check=False,
    )
    commits = log.stdout.split("\n")[0]
    if commits:
        return f"{_FILE} was written and committed: {commits}"
    return f"{_FILE} was written and not committed; the daemon commits such work itself"


def _what_it_used(config: Config, usage: Usage, model: str) -> str:
    if not usage.tokens:
        return "it reported no tokens"
    cost, source = cost_of(usage, model, config.prices)
    money = "its cost is not known" if cost is None else f"{cost:.4f} US dollars ({source})"
    return f"{usage.input_tokens:_} tokens read, {usage.output_tokens:_} written; {money}"


def _last_lines(file: Path, judged: Judged) -> list[str]:
    if judged.outcome is AgentOutcome.OK or not file.exists():
        return []
    lines = file.read_text(errors="replace").splitlines()
    return [f"stderr: {line}" for line in lines[-3:]]

"""What `agents test NAME` does: a one-line task in a scratch repository, told in words.

It runs as an attempt would, with the same environment, adapter and judgement, but outside the
daemon: nothing of the workspace is touched, and what it uses is not counted.
"""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anyio import run_process, to_thread

from alluvium_like import messages
from alluvium_like.agents.command import AttemptPlaces
from alluvium_like.agents.events import Usage
from alluvium_like.agents.outcome import Judged, judge
from alluvium_like.agents.prices import cost_of
from alluvium_like.config import Config, load_config
from alluvium_like.config.agents import Profile
from alluvium_like.execution.marker import RunKind, RunMarker
from alluvium_like.execution.process import RunSpec
from alluvium_like.gitrepo.owner import create_repository
from alluvium_like.gitrepo.workshop import Workshop
from alluvium_like.lifecycle import AgentOutcome
from alluvium_like.stages.boxes import Boxes, make_home
from alluvium_like.stages.dispatch.worker import Worker, environment_of, worker_of
from alluvium_like.surface.agents import find_profile
from alluvium_like.surface.foreground import run_in_foreground, run_program
from alluvium_like.workspace import TaskFolder, Workspace

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
    """Let an agent do the task. Raises ConfigError, UsageError or RepositoryError.

    Told to end, it ends the agent first and leaves nothing behind.
    """
    config = load_config(workspace.config_file)
    profile = find_profile(config, name)

    async def in_scratch() -> Trial:
        with tempfile.TemporaryDirectory(
            prefix="alluvium-like-test-", ignore_cleanup_errors=True
        ) as folder:
            boxes = await to_thread.run_sync(Boxes, workspace)
            return await _try(config, boxes, name, profile, Path(folder).resolve())

    return run_in_foreground(in_scratch)


async def _try(config: Config, boxes: Boxes, name: str, profile: Profile, folder: Path) -> Trial:
    repo = folder / "repo"
    create_repository(repo, config.git.author_name, config.git.author_email)
    for key, value in (("name", config.git.author_name), ("email", config.git.author_email)):
        # As the worktree of a task has it.
        await run_process(["git", "config", f"user.{key}", value], cwd=repo)
    worker = await to_thread.run_sync(_worker, config, boxes, name, repo, folder)
    record = worker.record(folder / "transcript.jsonl", lambda _: None)
    spec = await to_thread.run_sync(worker.fill, _spec(worker, folder), record)
    refused: list[str] = []
    end = await run_program(
        spec, worker.box, lambda *told: refused.append(messages.not_let_reach(*told))
    )
    if record is not None:
        await to_thread.run_sync(record.finish)
    judged = judge(end, record)
    wrote = _has_written(repo / _FILE)
    words = (
        f"ran for {end.duration_seconds:.1f} s: "
        f"{messages.agent_fared(judged.outcome, judged.reason)}",
        _what_git_shows(repo, wrote=wrote),
        _what_it_used(config, record.usage if record else Usage(), profile.model),
        "it ran in a box" if worker.box else "it ran without a box",
        *refused,
        *_last_lines(spec.stderr_path, judged),
    )
    return Trial(name, judged.outcome, wrote, words)


def _worker(config: Config, boxes: Boxes, name: str, repo: Path, folder: Path) -> Worker:
    """Make what a task has, and return what works on it."""
    profile, task = config.profiles[name], TaskFolder(folder)
    borrowed = folder / "borrowed.git"
    for made in (task.input, task.agent, borrowed / "objects"):
        made.mkdir(parents=True)
    task.prompt.write_text(_PROMPT, encoding="utf-8")
    places = AttemptPlaces("test", folder, task.agent, repo, "main", task.prompt)
    environment = environment_of(profile, places)
    workshop = Workshop("test", repo / ".git", repo)
    worker = worker_of(name, profile, places, environment, _PROMPT, config.prices).boxed(
        boxes, config, task, workshop, borrowed
    )
    if worker.box is not None:
        make_home(task, worker.box)
    return worker


def _spec(worker: Worker, folder: Path) -> RunSpec:
    """Say how it is run; the mark is its own, so that two trials at once do not end each other."""
    profile = worker.profile
    return RunSpec(
        argv=[],
        cwd=worker.places.worktree,
        environment={},
        marker=RunMarker(folder.name, RunKind.ATTEMPT, worker.name, 1),
        stdout_path=folder / "stdout.log",
        stderr_path=folder / "stderr.log",
        output_limit_bytes=profile.output_limit_bytes,
        timeout_seconds=profile.timeout_seconds,
        stall_seconds=profile.stall_seconds,
        grace_seconds=_GRACE_SECONDS,
    )


def _has_written(file: Path) -> bool:
    return file.is_file() and file.read_text(errors="replace").strip() == "hello"


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

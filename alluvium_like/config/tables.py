"""The tables of config.toml: these classes hold the only defaults there are.

All are frozen and strict: a number in quotes or a yes for a number is a mistake, as is a key that
nobody knows. The description of a field is its documentation; the example file is made from it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from alluvium_like.config.problems import refuse
from alluvium_like.config.values import (
    PLACEHOLDERS,
    Branch,
    CommandLine,
    Identity,
    Patterns,
    Place,
    Remote,
    Seconds,
    Text,
    Texts,
    Variables,
)

AT_START: Final = "counts at the next start of the daemon"
InboxWatch = Literal["auto", "events", "polling"]
_TEST_SECONDS: Final = 1800
# The longest is as good as for ever, and still a date.
Days = Annotated[Seconds, Field(ge=0, le=100_000)]
PROTECTED: Final = (
    # what runs on other machines
    *(".github/", ".gitlab/", ".gitlab-ci.yml", ".circleci/", ".buildkite/", ".travis.yml"),
    *("azure-pipelines.yml", "bitbucket-pipelines.yml", "Jenkinsfile", ".woodpecker/", ".ci/"),
    # what runs in Git, or changes what it reads and writes
    *(".githooks/", ".husky/", "lefthook.yml", ".pre-commit-config.yaml"),
    *(".gitattributes", ".gitmodules"),
    # what agents run and are allowed
    *(".claude/", ".mcp.json", ".codex/", ".gemini/", ".qwen/", ".cursor/", ".opencode/"),
    *("opencode.json", ".aider.conf.yml", ".vscode/mcp.json"),
)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Repo(_Table):
    """The Git repository that gets the work."""

    path: Annotated[Place, AT_START] = Field(
        default="repo",
        description="Where it is: relative to the workspace, or absolute. It stays yours: the "
        "daemon only ever fast-forwards its base branch, and never touches what you have not "
        "committed.",
    )

    def at(self, root: Path) -> Path:
        """Return the absolute path of the repository of the workspace at `root`."""
        return root / Path(self.path).expanduser()


class Agent(_Table):
    """What works on a task. It runs in the task's own worktree and gets the prompt on stdin."""

    command: CommandLine = Field(
        default=("{python}", "-P", "-m", "alluvium_like.agents.builtin"),
        description="The program and its arguments; no shell reads them. Filled in: "
        + " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        + ". The same values are in the environment, as ALLUVIUM_TASK_ID and so on.",
    )
    timeout_seconds: Seconds = Field(
        default=3600, gt=0, description="The longest that one attempt may take, in seconds."
    )
    retries: int = Field(
        default=1, ge=0, description="How often a failed attempt is repeated before the task fails."
    )
    retry_delay_seconds: Seconds = Field(
        default=2,
        ge=0,
        description="The pause before the first repetition, in seconds; it doubles each time.",
    )
    env: Variables = Field(
        default=(),
        description="Names of further environment variables that are passed on to the agent, "
        'such as ["OPENAI_API_KEY"]. Its environment holds nothing else but ALLUVIUM_* and the '
        "basics: PATH, HOME, USER, SHELL, LANG, LC_*, TERM, TZ, TMPDIR.",
    )
    output_limit_bytes: int = Field(
        default=10_000_000,
        ge=0,
        description="How much of stdout and of stderr is kept of one attempt, in bytes each.",
    )


class TestCommand(_Table):
    """One test of a candidate: a shell command line with its name and deadline."""

    __test__: ClassVar[bool] = False  # pytest would collect it for its name

    name: Text
    command: Text
    timeout_seconds: Seconds = Field(default=_TEST_SECONDS, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _from_line(cls, given: object) -> object:
        """Take a bare command line as a table; without a name, a test is called by its command."""
        table = {"command": given} if isinstance(given, str) else given
        if not isinstance(table, dict):
            refuse("not a test", "a shell command line, or a table with command and name")
        command = table.get("command")
        lines = command.strip().splitlines() if isinstance(command, str) else []
        return {"name": lines[0] if lines else "test", **table}


class Integration(_Table):
    """How finished work gets onto the base branch: in order, merged and tested before it lands."""

    enabled: bool = Field(
        default=True, description="With false, finished work waits and nothing is merged."
    )
    base_branch: Annotated[Branch, AT_START] = Field(
        default="",
        description="The branch that work starts from and lands on. Empty: the branch that the "
        "repository had checked out at init, kept from then on.",
    )
    run_tests: Annotated[tuple[TestCommand, ...], Field(strict=False)] = Field(
        default=(),
        description="Run on every candidate before it lands, in a tree of its own. Each item is "
        'a shell command line, or a table such as {name = "unit", command = "make test", '
        f"timeout_seconds = 600}}. A test may take {_TEST_SECONDS} seconds where nothing else "
        "is said.",
    )
    max_revision_rounds: int = Field(
        default=2,
        ge=0,
        description="How often the agent is asked to mend a conflict or a failed test of its "
        "work before a person is asked.",
    )
    merge_style: Literal["squash", "merge"] = Field(
        default="squash",
        description='"squash" lands each task as one commit, "merge" keeps its commits under a '
        "merge commit.",
    )
    parallel_tests: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="How many candidates are tested at the same time, each in a tree of its own; "
        "0 is half the processors. A candidate that passes proves those before it too.",
    )
    strict: bool = Field(
        default=False,
        description="With true, every single commit is tested before it lands, and not only the "
        "last of several that land together.",
    )
    protected_paths: Patterns = Field(
        default=PROTECTED,
        description="Work that touches one of these waits for a person ('approve' or 'reject'): "
        "they decide what runs, when, and with which rights. Written as in .gitignore, without "
        "exceptions and backslashes; upper and lower case are the same. An empty list protects "
        "nothing.",
    )
    push: Remote = Field(
        default="",
        description='The remote of the repository, such as "origin", to which the base branch is '
        "pushed after every landing, and from which the work of others is taken up. Empty: none.",
    )

    @property
    def test_slots(self) -> int:
        """How many candidates may be under test at the same time."""
        return self.parallel_tests or max(1, (os.cpu_count() or 2) // 2)


class Git(_Table):
    """Who the daemon's own commits are by."""

    author_name: Identity = Field(default="alluvium-like", description="Their author's name.")
    author_email: Identity = Field(
        default="alluvium-like@localhost", description="Their author's address."
    )


class Safety(_Table):
    """Limits, and what is left alone in the inbox."""

    max_workers: int = Field(default=2, ge=1, description="How many agents run at the same time.")
    inbox_settle_seconds: Seconds = Field(
        default=2,
        ge=0,
        description="How long an item must stay unchanged before it is taken; 0 takes it at once.",
    )
    inbox_watch: InboxWatch = Field(
        default="auto",
        description='How arrivals are noticed. "events": the system tells of them at once. '
        '"polling": the names in the inbox are listed every two seconds, for file systems that '
        'are changed from elsewhere too. "auto" is polling on network mounts, else events.',
    )
    shutdown_grace_seconds: Seconds = Field(
        default=10,
        ge=0,
        description="How long a process may take to end after it was asked to (TERM), before it "
        "is killed: when the daemon stops, at a deadline, at a cancel.",
    )
    warm_worktrees: int = Field(
        default=8,
        ge=0,
        description="How many worktrees are kept, cleaned and brought to the newest base, for the "
        "tasks to come: handing one over takes milliseconds however large the repository is. 0 "
        "makes a new one for every attempt.",
    )
    warm_disk_bytes: int = Field(
        default=20_000_000_000,
        ge=0,
        description="How much all of them together may take up, in bytes.",
    )
    max_item_files: int = Field(
        default=50_000,
        ge=1,
        description="How many files, folders and links one item may hold. What holds more is "
        "moved to quarantine/.",
    )
    max_item_bytes: int = Field(
        default=10_000_000_000,
        ge=1,
        description="How many bytes the files of one item may hold together, as large as a copy of "
        "them would be: holes count, and so does every name of a file that has several.",
    )
    ignore_name_prefixes: Texts = Field(
        default=(".",), description="Items whose names begin so are left in the inbox."
    )
    ignore_name_suffixes: Texts = Field(
        default=(".tmp", ".part", ".partial", ".crdownload"),
        description="Items whose names end so are left in the inbox: downloads under way.",
    )


class Retention(_Table):
    """How long things are kept, and how much of them. Nothing is removed of a task that waits for a
    person, is under way or has yet to land. Limits of 0 are none.
    """

    done_days: Days = Field(
        default=0,
        description="How many days after its end the folder of a done task is kept, and what was "
        "dropped with it. 0 keeps it for ever, as in all limits here.",
    )
    failed_days: Days = Field(
        default=0,
        description="The same for failed and cancelled tasks. Their branch goes with the folder, "
        "and nothing is left to retry.",
    )
    folders_bytes: int = Field(
        default=0,
        ge=0,
        description="How much the folders of ended tasks may take up together, in bytes. Beyond "
        "that the oldest go: first those of done tasks, then those of failed and cancelled ones.",
    )
    outputs_days: Days = Field(
        default=0,
        description="How many days after the task's end the artifacts in .agent/outputs/ are kept.",
    )
    attempts_days: Days = Field(
        default=90,
        description="How many days after the end of a done task the commands and output of its "
        "attempts are kept.",
    )
    failed_attempts_days: Days = Field(
        default=365, description="The same for failed and cancelled tasks."
    )
    history_days: Days = Field(
        default=0,
        description="How many days after its end the rows of a task whose folder is gone are kept: "
        "its history, its attempts, what a person was asked. Commits that landed stay in Git.",
    )
    test_logs: int = Field(
        default=1000,
        ge=0,
        description="How many files of logs/tests/ are kept, the newest. What decided about a "
        "task is in its folder too.",
    )
    test_logs_days: Days = Field(default=90, description="How many days they are kept.")
    test_logs_bytes: int = Field(
        default=1_000_000_000,
        ge=0,
        description="How much they may take up together, in bytes.",
    )
    log_bytes: Annotated[int, AT_START] = Field(
        default=10_000_000,
        ge=0,
        description="How large logs/daemon.jsonl may grow before a new one is begun, in bytes.",
    )
    log_files: Annotated[int, AT_START] = Field(
        default=5,
        ge=1,
        description="How many older ones are kept: daemon.jsonl.1, the newest of them, and so on.",
    )
    min_free_bytes: int = Field(
        default=1_000_000_000,
        ge=0,
        description="How much of the disk must be free, in bytes, for work to begin. Below that "
        "items stay in the inbox and no attempt is started until there is room again.",
    )


class Config(_Table):
    """The whole file."""

    repo: Repo = Repo()
    agent: Agent = Agent()
    integration: Integration = Integration()
    git: Git = Git()
    safety: Safety = Safety()
    retention: Retention = Retention()


def tables() -> dict[str, type[BaseModel]]:
    """Return the class of each table, in the order of the file."""
    return {name: type(info.default) for name, info in Config.model_fields.items()}


def fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield table, key and description of every setting, in the order of the file."""
    for table, kind in tables().items():
        for key, info in kind.model_fields.items():
            yield table, key, info


RESTART_KEYS: Final = frozenset(
    f"{table}.{key}" for table, key, info in fields() if AT_START in info.metadata
)

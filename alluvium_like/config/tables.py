"""The tables of config.toml: these classes hold the only defaults there are.

All are frozen and strict: a number in quotes or a yes for a number is a mistake, as is a key that
nobody knows. The description of a field is its documentation; the example file is made from it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator
from pydantic.fields import FieldInfo

from alluvium_like.config.agents import (
    DEFAULT_PROFILE,
    Agent,
    Budget,
    Price,
    Profile,
    price_of,
)
from alluvium_like.config.integration import Integration
from alluvium_like.config.problems import refuse
from alluvium_like.config.sandbox import Sandbox, refuse_inside
from alluvium_like.config.setup import Setup
from alluvium_like.config.values import (
    AT_START,
    Identity,
    Place,
    ProfileName,
    Seconds,
    Table,
    Text,
    Texts,
)

InboxWatch = Literal["auto", "events", "polling"]
# The longest is as good as for ever, and still a date.
Days = Annotated[Seconds, Field(ge=0, le=100_000)]


class Repo(Table):
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


class Git(Table):
    """Who the daemon's own commits are by."""

    author_name: Identity = Field(default="alluvium-like", description="Their author's name.")
    author_email: Identity = Field(
        default="alluvium-like@localhost", description="Their author's address."
    )


class Safety(Table):
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
        description="How many files, folders and links a dropped folder may hold, at any depth; "
        "it does not count itself. What holds more is moved to quarantine/.",
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


class Retention(Table):
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
        "its history, its attempts and what they used, what a person was asked. They stay until "
        "the day (UTC) is over, whose budgets count them. Commits that landed stay in Git.",
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
    setups: int = Field(
        default=5,
        ge=0,
        description="How many of the kept results of [setup] stay, those that were used last.",
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


class Config(Table):
    """The whole file."""

    repo: Repo = Repo()
    agent: Agent = Agent()
    agents: Annotated[Mapping[ProfileName, Profile], AfterValidator(MappingProxyType)] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    budget: Budget = Budget()
    prices: Annotated[Mapping[Text, Price], AfterValidator(MappingProxyType)] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    setup: Setup = Setup()
    sandbox: Sandbox = Sandbox()
    integration: Integration = Integration()
    git: Git = Git()
    safety: Safety = Safety()
    retention: Retention = Retention()

    @property
    def profiles(self) -> dict[str, Profile]:
        """Return all agents by name; that of [agent] itself is the first."""
        return {DEFAULT_PROFILE: self.agent, **self.agents}

    def chosen(self, name: str) -> str:
        """Return the name of the profile that is meant; "" means the one that [agent] says."""
        return name or self.agent.profile or DEFAULT_PROFILE

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        named = [("agent.profile", self.agent.profile)]
        named += [(f"fallback of {name}", each.fallback) for name, each in self.profiles.items()]
        for where, name in named:
            if name and name not in self.profiles:
                known = ", ".join(self.profiles)
                refuse(f"{where} is '{name}', which is no agent; there are {known}", known)
        for name in self.profiles:
            self._refuse_circle(name)
        return self

    @model_validator(mode="after")
    def _nothing_lies_where_agents_write(self) -> Self:
        boxes = [self.sandbox.merged(each) for each in self.profiles.values()]
        refuse_inside({path for each in boxes for path in each.writable}, boxes)
        return self

    @model_validator(mode="after")
    def _limited_requests_have_prices(self) -> Self:
        for name, each in self.profiles.items():
            for model in each.models if each.max_budget else ():
                if price_of(model, self.prices) is None:
                    wants = f"max_budget of {name} needs what '{model}' costs"
                    refuse(f'{wants}: a table [prices."{model}"]', "a price")
        return self

    def _refuse_circle(self, first: str) -> None:
        seen, name = [first], self.profiles[first].fallback
        while name:
            if name in seen:
                refuse(
                    f"the fallbacks of agents go in a circle: {' → '.join([*seen, name])}", "none"
                )
            seen.append(name)
            name = self.profiles[name].fallback


NAMED: Final[dict[str, type[Table]]] = {"agents": Profile, "prices": Price}
"""The tables of which there may be several, each with a name."""


def tables() -> dict[str, type[BaseModel]]:
    """Return the class of each table that there is once, in the order of the file."""
    return {
        name: type(info.default) for name, info in Config.model_fields.items() if name not in NAMED
    }


def fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield table, key and description of every setting, in the order of the file."""
    for table, kind in tables().items():
        for name, info in kind.model_fields.items():
            yield table, info.alias or name, info


RESTART_KEYS: Final = frozenset(
    f"{table}.{key}" for table, key, info in fields() if AT_START in info.metadata
)

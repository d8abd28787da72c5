"""What the stages share: built once by the supervisor, handed to each."""

from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from alluvium_like import messages
from alluvium_like.config import Config
from alluvium_like.errors import PlaceLost, StoreError
from alluvium_like.execution.ports import Ports
from alluvium_like.execution.process import StopRequest
from alluvium_like.gitrepo.integration import Integration
from alluvium_like.gitrepo.landing import Owner
from alluvium_like.gitrepo.runner import Git, Identity
from alluvium_like.gitrepo.warm import Limits, WarmTrees
from alluvium_like.gitrepo.workshop import Workshop
from alluvium_like.lifecycle import Condition, Ending
from alluvium_like.log import get_logger
from alluvium_like.place import Place
from alluvium_like.stages.boxes import Boxes
from alluvium_like.stages.health import Health
from alluvium_like.stages.setups import Setups
from alluvium_like.stages.watch import Watch
from alluvium_like.store.writer import Store
from alluvium_like.task import REPOSITORY
from alluvium_like.wake import Wake
from alluvium_like.workspace import Workspace

log = get_logger(__name__)

SLOW_LOOK_SECONDS = 60.0
"""How often a stage looks without having been woken."""


@dataclass(slots=True)
class Settings:
    """The configuration in force; a reload swaps it whole."""

    current: Config

    @property
    def identity(self) -> Identity:
        """Who the daemon is as an author."""
        return Identity(self.current.git.author_name, self.current.git.author_email)

    @property
    def warm_limits(self) -> Limits:
        """How many worktrees are kept warm, and how large."""
        safety = self.current.safety
        return Limits(safety.warm_worktrees, safety.warm_disk_bytes)


class _Echo(Wake):
    """A wake that others follow; each has one stage that waits for it."""

    def __init__(self, *followers: Wake) -> None:
        super().__init__()
        self._followers = followers

    def set(self) -> None:
        super().set()
        for follower in self._followers:
            follower.set()


@dataclass(frozen=True, slots=True)
class Wakes:
    """One wake a stage; `idle`, set when an attempt, a look of the lane or at the remote is over,
    wakes three: the stages that hold off while there is something better to do follow it.
    """

    intake: Wake = field(default_factory=Wake)
    dispatch: Wake = field(default_factory=Wake)
    integrate: Wake = field(default_factory=Wake)
    janitor: Wake = field(default_factory=Wake)
    notify: Wake = field(default_factory=Wake)
    warmer: Wake = field(default_factory=Wake)
    upstream: Wake = field(default_factory=Wake)
    keeper: Wake = field(default_factory=Wake)
    control: Wake = field(default_factory=Wake)
    idle: Wake = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "idle", _Echo(self.warmer, self.janitor))

    def set_all(self) -> None:
        """Let every stage look, as after a reload."""
        stages = (self.intake, self.dispatch, self.integrate, self.janitor, self.notify)
        for wake in (*stages, self.warmer, self.upstream, self.keeper, self.control):
            wake.set()


class Runs:
    """The processes that run now, by what they run for; how cancel and stop reach them."""

    def __init__(self) -> None:
        self._live: dict[str, tuple[StopRequest, anyio.Event]] = {}
        self.stop_asked = anyio.Event()

    @property
    def stopping(self) -> bool:
        """Tell whether the daemon is to stop."""
        return self.stop_asked.is_set()

    def begin(self, key: str) -> StopRequest:
        """Register a run; once the daemon is stopping it is stopped as soon as it starts."""
        request = StopRequest()
        self._live[key] = (request, anyio.Event())
        if self.stopping:
            request.stop(Ending.SHUTDOWN)
        return request

    def end(self, key: str) -> None:
        """Say that nothing of the run is left."""
        self._live.pop(key)[1].set()

    async def stop(self, key: str, ending: Ending) -> None:
        """End one run, if it is live, and wait until nothing of it is left."""
        if key in self._live:
            request, ended = self._live[key]
            request.stop(ending)
            await ended.wait()

    @property
    def none_live(self) -> bool:
        """Tell whether nothing runs."""
        return not self._live

    def is_live(self, key: str) -> bool:
        """Tell whether something runs for `key`."""
        return key in self._live

    def stop_all(self, *, now: bool) -> None:
        """End every run because the daemon stops, `now` without any grace."""
        self.stop_asked.set()
        for request, _ in self._live.values():
            request.stop(Ending.SHUTDOWN, now=now)


@dataclass(slots=True)
class Ahead:
    """What others pushed on top of the landed base: the upstream stage asks, the lane takes it up.

    A hint like a wake: both compare again. `reason` tells why the lane could not, and tries again.
    """

    commit: str = ""
    reason: str = ""

    def ask(self, commit: str) -> None:
        """Ask for a commit to be taken up, or with an empty one for nothing any more."""
        if commit != self.commit:
            self.commit, self.reason = commit, ""

    @property
    def is_due(self) -> bool:
        """Tell whether the lane has yet to try."""
        return bool(self.commit) and not self.reason


@dataclass(frozen=True, slots=True)
class Pulled:
    """The newest task that merges what others pushed, and the commit that it must bring."""

    task_id: str
    tip: str


def pulled_key(repository: str) -> str:
    """Return the name under which the store keeps the newest `Pulled`, as two words."""
    return f"upstream:{repository}"


async def last_pulled(parts: "Parts") -> Pulled | None:
    """Return the newest task that merges what others pushed, None before the first."""
    words = (await parts.store.get_meta(pulled_key(parts.repository))).split()
    return Pulled(*words) if words else None


async def tell_condition(parts: "Parts", name: str, reason: str, repository: str = "") -> None:
    """Say what holds a stage up; where the store itself is the trouble, the log has to do."""
    try:
        await parts.store.set_condition(name, reason, repository)
    except StoreError:
        log.exception("condition_not_stored", name=name, reason=reason)


async def tell_unboxed(parts: "Parts") -> None:
    """Say where what should be run in a box is not, since none can be made here."""
    problem = parts.boxes.lacking(parts.settings.current)
    if not problem:
        await parts.store.clear_condition(Condition.UNBOXED)
        return
    reason = messages.unboxed(problem)
    log.warning("unboxed", reason=reason)
    await tell_condition(parts, Condition.UNBOXED, reason)


@dataclass(frozen=True, slots=True)
class Parts:
    """The daemon's parts; one repository has one lane."""

    workspace: Workspace
    store: Store
    settings: Settings
    git: Git
    integration: Integration
    owner: Owner
    workspace_id: str
    warm: WarmTrees
    health: Health
    boxes: Boxes
    own: tuple[Place, ...] = ()
    repository: str = REPOSITORY
    wakes: Wakes = field(default_factory=Wakes)
    runs: Runs = field(default_factory=Runs)
    ahead: Ahead = field(default_factory=Ahead)
    ports: Ports = field(default_factory=Ports)
    setups: Setups = field(default_factory=Setups)
    watch: Watch = field(default_factory=Watch)

    async def mend(self) -> bool:
        """Make those of the daemon's own folders that are missing; return whether any was.

        Raises PlaceLost where something of its own was taken away: then nobody else is to blame.
        """

        def look() -> bool:
            for place in self.own:
                place.require()
            return bool(self.workspace.mend_folders())

        return await anyio.to_thread.run_sync(look)

    async def tell(self, error: BaseException) -> bool:
        """Note what a failure tells of the machine, or of what is the daemon's own.

        Returns whether it was about either: then it is nobody's fault, and passes.
        """
        if self.health.tell(error):
            return True
        try:
            return await self.mend()
        except (PlaceLost, OSError) as lost:
            return self.health.tell(lost)

    def workshop(self, task_id: str) -> Workshop:
        """Return the places of one task's repository and worktree."""
        return Workshop(
            task_id,
            self.workspace.workshops / f"{task_id}.git",
            self.workspace.worktrees / task_id,
        )

    def slot(self, name: str) -> Workshop:
        """Return the places of one throw-away tree for tests."""
        folder: Path = self.workspace.slots / name
        return Workshop(name, folder / "repo.git", folder / "tree", folder)

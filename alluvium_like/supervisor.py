"""The root: takes the lock, opens the store, recovers, and runs every stage in one task group.

READY is told only after recovery. A stop lets nothing new begin, ends the agents by the ladder
within the grace and lets a landing finish; a stage that raises takes the daemon down, agents
included, because a daemon that half works is worse than one that is started again.
"""

import os
import signal
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc
import anyio.to_thread

from alluvium_like import __version__
from alluvium_like.clock import utc_now
from alluvium_like.config import Config, load_config
from alluvium_like.config.load import changed_keys
from alluvium_like.config.tables import RESTART_KEYS
from alluvium_like.errors import AlluviumError, ConfigError, SandboxMissing, StoreError
from alluvium_like.execution.adopt import become_subreaper, reap_orphans
from alluvium_like.inbox.lease import ignore_lease_signals
from alluvium_like.lock import workspace_lock
from alluvium_like.log import get_logger, logging_to
from alluvium_like.place import Place
from alluvium_like.stages.copied import remember_copied
from alluvium_like.stages.dispatch.pool import Dispatch
from alluvium_like.stages.dispatch.worker import remember_secrets, remember_variables
from alluvium_like.stages.intake import Intake
from alluvium_like.stages.integrate.lane import Lane
from alluvium_like.stages.janitor import Janitor
from alluvium_like.stages.keeper import Keeper
from alluvium_like.stages.notify import Notify
from alluvium_like.stages.opening import open_parts
from alluvium_like.stages.parts import Parts, tell_unboxed
from alluvium_like.stages.pending import anything_to_do
from alluvium_like.stages.recover import recover
from alluvium_like.stages.upstream import Upstream
from alluvium_like.stages.warmer import Warmer
from alluvium_like.surface.actions import Actions
from alluvium_like.surface.housekeeping import document
from alluvium_like.surface.methods import methods_of
from alluvium_like.surface.readiness import notify, watchdog_seconds
from alluvium_like.surface.server import Method, serve_control
from alluvium_like.trouble import explain, trouble_of
from alluvium_like.workspace import Workspace

log = get_logger(__name__)

_STOP_MARGIN_SECONDS = 5.0
_SCANNER_PATIENCE_SECONDS = 180.0

_Work = Callable[[Parts, Notify], Awaitable[None]]


def serve(workspace: Workspace, *, console: bool) -> None:
    """Run the daemon until it is told to stop. Raises AlluviumError."""
    _run(workspace, console, lambda parts, follower: Supervisor(parts, follower).run())


def run_once(workspace: Workspace, *, ignore_settle: bool) -> None:
    """Take in what is in the inbox, work until nothing is left to do, and return."""

    def work(parts: Parts, follower: Notify) -> Awaitable[None]:
        once = Supervisor(parts, follower, until_idle=True, ignore_settle=ignore_settle)
        return once.run()

    _run(workspace, False, work)


def integrate_once(workspace: Workspace) -> None:
    """Integrate what is ready, once, and return."""

    async def work(parts: Parts, _: Notify) -> None:
        await Lane(parts).drain()

    _run(workspace, False, work)


def _run(workspace: Workspace, console: bool, work: _Work) -> None:
    with workspace_lock(workspace):
        workspace.make_folders()
        workspace.require_one_file_system()
        config = load_config(workspace.config_file)
        _remember(config, workspace)
        workspace.pid_file.write_text(f"{os.getpid()}\n")
        pid_file = Place.of(workspace.pid_file)
        become_subreaper()
        ignore_lease_signals()
        with logging_to(
            workspace.log_file,
            console=console,
            most_bytes=config.retention.log_bytes,
            older_files=config.retention.log_files,
        ):
            try:
                anyio.run(_with_parts, workspace, config, work)
            finally:
                pid_file.remove()


def _remember(config: Config, workspace: Workspace) -> None:
    """Mask from now on what the configuration gives to programs."""
    remember_secrets(config.profiles.values())
    remember_variables(config.setup.passed, config.setup.fixed)
    remember_copied(config.setup, config.repo.at(workspace.root))


async def _with_parts(workspace: Workspace, config: Config, work: _Work) -> None:
    try:
        await _recover_and_work(workspace, config, work)
    except AlluviumError:
        raise
    except Exception as error:
        log.exception("daemon_failed")
        trouble = trouble_of(error)
        if trouble is not None:
            raise AlluviumError(f"{explain(trouble, error)}, and try again") from error
        raise AlluviumError(
            f"the daemon failed: {error!r}; {workspace.log_file} says where"
        ) from error


async def _recover_and_work(workspace: Workspace, config: Config, work: _Work) -> None:
    async with open_parts(workspace, config) as parts:
        await recover(parts)
        follower = Notify(parts)
        await Intake(parts).finish_half_claims()
        await follower.catch_up()
        try:
            await work(parts, follower)
        finally:
            with anyio.CancelScope(shield=True):
                await follower.finish()
                await parts.health.write_last()


class Supervisor:
    """Runs the stages over one set of parts."""

    def __init__(
        self,
        parts: Parts,
        follower: Notify,
        *,
        until_idle: bool = False,
        ignore_settle: bool = False,
    ) -> None:
        self._parts = parts
        self._until_idle = until_idle
        self._intake = Intake(parts, ignore_settle=ignore_settle)
        self._dispatch = Dispatch(parts)
        self._lane = Lane(parts)
        self._upstream = Upstream(parts)
        self._janitor = Janitor(parts)
        self._keeper = Keeper(parts)
        self._warmer = Warmer(parts)
        self._notify = follower
        self._started_at = utc_now()

    async def run(self) -> None:
        """Run until told to stop, or in once-mode until nothing is left to do."""
        async with anyio.create_task_group() as outer:
            outer.start_soon(self._listen_to_signals)
            outer.start_soon(reap_orphans)
            await outer.start(serve_control, self._parts, self._methods())
            async with anyio.create_task_group() as stages:
                for stage in (
                    self._intake.run,
                    self._dispatch.run,
                    self._lane.run,
                    self._upstream.run,
                    self._janitor.run,
                    self._notify.run,
                    self._keeper.run,
                ):
                    stages.start_soon(stage)
                if not self._until_idle:  # else there is no next task to make it for
                    stages.start_soon(self._warmer.run)
                outer.start_soon(self._feed_watchdog)
                outer.start_soon(self._stop_when_damaged)
                outer.start_soon(self._enforce_grace, stages.cancel_scope)
                if self._until_idle:
                    outer.start_soon(self._stop_when_idle)
                notify(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=watching the inbox")
                log.info("daemon_ready", pid=os.getpid(), version=__version__)
            log.info("daemon_stopped")
            outer.cancel_scope.cancel()
        self._require_health()

    def _require_health(self) -> None:
        """Raise what ended the work before its time."""
        health = self._parts.health
        if health.damage is not None:
            raise health.damage
        if self._until_idle and health.told:
            reasons = "; ".join(f"{told.name}: {told.reason}" for told in health.told)
            raise AlluviumError(f"not all could be done: {reasons}")

    async def _stop_when_damaged(self) -> None:
        await self._parts.health.damaged.wait()
        self.stop(now=True)

    def stop(self, *, now: bool = False) -> None:
        """Let nothing new begin and end what runs; `now` without any grace."""
        notify("STOPPING=1")
        self._parts.runs.stop_all(now=now or self._parts.runs.stopping)
        self._parts.wakes.set_all()

    async def reload(self) -> dict[str, object]:
        """Take up config.toml whole, or not at all. Raises ConfigError or SandboxMissing."""
        settings = self._parts.settings
        new = load_config(self._parts.workspace.config_file)
        self._parts.boxes.require(new)
        changed = changed_keys(settings.current, new)
        later = [key for key in changed if key in RESTART_KEYS]
        _remember(new, self._parts.workspace)
        settings.current = new
        await tell_unboxed(self._parts)
        self._parts.wakes.set_all()
        log.info("config_reloaded", changed=changed, needs_restart=later)
        return {"changed": [key for key in changed if key not in later], "needs_restart": later}

    def _methods(self) -> dict[str, Method]:
        parts = self._parts
        actions = Actions(parts.workspace, parts.store, parts.wakes, parts.runs)

        async def ping() -> dict[str, object]:
            return {
                "pid": os.getpid(),
                "version": __version__,
                "started_at": self._started_at,
            }

        async def stop(force: bool = False) -> dict[str, object]:
            self.stop(now=force)
            return {}

        async def reload() -> dict[str, object]:
            return await self.reload()

        async def gc() -> dict[str, object]:
            return document(await self._janitor.sweep())

        return {
            "ping": ping,
            "stop": stop,
            "reload": reload,
            "gc": gc,
            **methods_of(actions),
        }

    async def _listen_to_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number != signal.SIGHUP:
                    self.stop()
                    continue
                try:
                    await self.reload()
                except (ConfigError, SandboxMissing) as error:
                    log.warning("reload_refused", why=str(error))

    async def _enforce_grace(self, stages: anyio.CancelScope) -> None:
        """Cancel what has not ended by itself: a long checkout, say. Agents are gone by then."""
        await self._parts.runs.stop_asked.wait()
        grace = self._parts.settings.current.safety.shutdown_grace_seconds
        await anyio.sleep(grace + _STOP_MARGIN_SECONDS)
        log.warning("stop_enforced")
        stages.cancel()

    async def _feed_watchdog(self) -> None:
        """Tell systemd that we live, only while the loop, the store and the scanner do."""
        period = watchdog_seconds()
        if period is None:
            return
        while True:
            try:
                await self._parts.store.get_meta("workspace_id")
            except StoreError as error:  # known, shown and looked after: no reason to be killed
                self._parts.health.tell(error)
            if self._intake.seconds_since_look() < _SCANNER_PATIENCE_SECONDS:
                notify("WATCHDOG=1")
            await anyio.sleep(period / 2)

    async def _stop_when_idle(self) -> None:
        while not await self._is_idle():
            await self._parts.wakes.idle.wait(1.0)
        self.stop()

    async def _is_idle(self) -> bool:
        try:
            return await self._has_no_work()
        except StoreError as error:
            if not self._parts.health.tell(error):
                raise
            return False

    async def _has_no_work(self) -> bool:
        if not self._parts.health.is_well:
            return self._dispatch.idle and self._lane.idle
        stages = (self._intake, self._dispatch, self._lane, self._upstream)
        return all(stage.idle for stage in stages) and not await anything_to_do(self._parts)

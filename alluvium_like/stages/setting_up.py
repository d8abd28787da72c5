"""A fresh worktree made ready, for an attempt as for the tests of a candidate.

The owner's files are copied in, submodules filled, and the commands of [setup] run, or what they
made before is copied in. Commands run as tests do: marked, with a deadline of their own, output
capped and masked, none of their processes left. What they make serves others only where the tree
was the landed base: what an agent committed may decide what they do.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from alluvium_like import messages
from alluvium_like.agents.command import base_environment
from alluvium_like.alongside import alongside
from alluvium_like.clock import monotonic
from alluvium_like.config.setup import Setup
from alluvium_like.errors import AlluviumError, SetupFailed
from alluvium_like.execution.marker import RunMarker
from alluvium_like.execution.output import last_line
from alluvium_like.execution.process import StopRequest
from alluvium_like.gitrepo.contents import Contents, look_into
from alluvium_like.gitrepo.private import write_excludes
from alluvium_like.gitrepo.submodules import fill_submodules
from alluvium_like.gitrepo.workshop import Workshop
from alluvium_like.lifecycle import Ending
from alluvium_like.log import get_logger
from alluvium_like.stages import setups
from alluvium_like.stages.copied import missing_of, place_for, remember_copied
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.shell import run_shell
from alluvium_like.trouble import Trouble, trouble_of

log = get_logger(__name__)

_Result = TypeVar("_Result")

PORT_VARIABLE = "ALLUVIUM_PORT_BASE"
_OUTPUT_LIMIT_BYTES = 10_000_000
_LONGEST_LINE = 200


class SetupStopped(AlluviumError):
    """Somebody asked for the end while a worktree was made ready; `ending` says which."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"stopped while its worktree was made ready: {ending}")
        self.ending = ending


class NoPorts(AlluviumError):
    """Every range of ports is taken: no work is to blame."""


@dataclass(frozen=True, slots=True)
class Site:
    """A fresh worktree, and the run that it is for.

    `commit` is what it holds, nothing beside that; empty where something was merged in.
    `environment` is what the run is told, ALLUVIUM_* alone.
    """

    workshop: Workshop
    commit: str
    marker: RunMarker
    log_file: Path
    environment: Mapping[str, str]


def take_ports(parts: Parts, key: str) -> dict[str, str]:
    """Give a run its range of ports, and return how it is told. Raises NoPorts."""
    setup = parts.settings.current.setup
    if not setup.ports_per_task:
        return {}
    bounds = setup.first_port, setup.last_port
    base = parts.ports.take(key, *bounds, setup.ports_per_task, seed=parts.workspace_id)
    if base is None:
        raise NoPorts(
            f"no {setup.ports_per_task} ports in a row are free between {setup.first_port} and "
            f"{setup.last_port}: widen [setup].first_port and last_port"
        )
    return {PORT_VARIABLE: str(base)}


async def set_up(parts: Parts, site: Site, stop: StopRequest) -> tuple[str, ...]:
    """Make a worktree ready; return the paths in it that never land.

    Raises SetupFailed, SetupStopped, GitFailed or OSError.
    """
    setup = parts.settings.current.setup
    contents = await _unless_stopped(stop, partial(_bring, parts, setup, site.workshop))
    if setup.run:
        await _run_or_reuse(parts, setup, site, setups.key_of(setup, contents.locks), stop)
    return setup.private


async def _bring(parts: Parts, setup: Setup, shop: Workshop) -> Contents:
    """Bring into a tree what comes from the owner; return what it held before."""
    locks = setup.lock_files if setup.run else ()
    contents = await look_into(parts.git, shop, locks, setup.private)
    _refuse(setup, contents)
    if setup.private:
        await anyio.to_thread.run_sync(write_excludes, shop, setup.private)
    if contents.submodules:
        integration = parts.integration
        source = integration.source()
        await fill_submodules(
            parts.git,
            shop.tree,
            contents.submodules,
            source.integration,
            integration.seen,
            parts.owner,
        )
    await _copy(parts, setup, shop.tree)
    return contents


def _refuse(setup: Setup, contents: Contents) -> None:
    if contents.lfs and not setup.lfs_pointers:
        raise SetupFailed(messages.lfs_pointers(contents.lfs))
    if contents.private:
        what = messages.private_tracked(contents.private[0])
        raise SetupFailed(f"{what}: {messages.TAKE_OUT}")


async def _copy(parts: Parts, setup: Setup, tree: Path) -> None:
    if not setup.copy_:
        return
    owner = parts.owner.path
    await anyio.to_thread.run_sync(remember_copied, setup, owner)
    missing = await anyio.to_thread.run_sync(missing_of, setup, owner)
    if missing:
        log.warning("setup_not_copied", missing=missing, folder=str(owner))
    for name in setup.copy_:
        if name in missing:
            continue
        target = await anyio.to_thread.run_sync(place_for, tree, name)
        source = await anyio.to_thread.run_sync((owner / name).resolve)
        try:
            await setups.copy_in(source, target, parts.workspace_id, follow=True)
        except OSError as error:
            if trouble_of(error) is Trouble.DISK:
                raise
            raise SetupFailed(f"{name} cannot be copied from {owner}: {error.strerror}") from error


async def _run_or_reuse(
    parts: Parts, setup: Setup, site: Site, key: str, stop: StopRequest
) -> None:
    tree, begun = site.workshop.tree, monotonic()
    if not setup.keep:
        await _run_all(parts, setup, site, stop)
        return
    reused = partial(_reused, parts, key, tree)
    if await _unless_stopped(stop, reused):
        log.info("setup_reused", key=key, seconds=round(monotonic() - begun, 3))
        return
    lock = parts.setups.lock(key)
    try:
        await _unless_stopped(stop, lock.acquire)
        if await _unless_stopped(stop, reused):  # made by whom we waited for
            log.info("setup_reused", key=key, seconds=round(monotonic() - begun, 3))
            return
        await _run_all(parts, setup, site, stop)
        if site.commit == parts.integration.seen:
            await _unless_stopped(stop, partial(_keep, parts, setup, key, tree))
    finally:
        if lock.statistics().owner == anyio.get_current_task():  # also where that was cut off
            lock.release()


async def _reused(parts: Parts, key: str, tree: Path) -> bool:
    try:
        return await setups.reuse(parts.workspace, key, tree, parts.workspace_id)
    except OSError as error:
        if trouble_of(error) is Trouble.DISK:
            raise
        log.warning("setup_not_reusable", key=key, why=str(error))
        await setups.forget(parts.workspace, key)
        return False


async def _keep(parts: Parts, setup: Setup, key: str, tree: Path) -> None:
    try:
        await setups.keep(parts.workspace, key, tree, setup.keep, parts.workspace_id)
    except OSError as error:
        log.warning("setup_not_kept", key=key, why=str(error))


async def _unless_stopped(stop: StopRequest, work: Callable[[], Awaitable[_Result]]) -> _Result:
    """Do something that takes its time, unless a stop is asked for. Raises SetupStopped."""
    with anyio.CancelScope() as scope:

        async def give_up() -> None:
            await stop.requested.wait()
            scope.cancel()

        return await alongside(give_up, work)
    raise SetupStopped(stop.ending or Ending.SHUTDOWN)


async def _run_all(parts: Parts, setup: Setup, site: Site, stop: StopRequest) -> None:
    begun = monotonic()
    basics = base_environment(os.environ, setup.passed)
    environment = {**basics, **setup.fixed, **site.environment}
    config, borrowed = parts.settings.current, parts.integration.path
    network, commands = config.sandbox.network, [each.command for each in setup.commands]
    box = await anyio.to_thread.run_sync(
        parts.boxes.of_tree, config, site.workshop, borrowed, network, commands
    )
    for command in setup.commands:
        end = await run_shell(
            command,
            box=box,
            cwd=site.workshop.tree,
            environment=environment,
            marker=site.marker,
            output=site.log_file,
            limit_bytes=_OUTPUT_LIMIT_BYTES,
            disk_limit_bytes=config.sandbox.max_disk_bytes,
            grace_seconds=config.safety.shutdown_grace_seconds,
            stop=stop,
        )
        if stop.ending is not None:
            raise SetupStopped(stop.ending)
        if end.ending is not Ending.EXITED or end.exit_code != 0:
            await parts.mend()  # raises where the command is not to blame
            said = await anyio.to_thread.run_sync(_last_words, site.log_file)
            shown = str(site.log_file.relative_to(parts.workspace.root))
            raise SetupFailed(messages.command_failed(command.name, end.reason, said, shown))
    log.info("setup_ran", commands=len(setup.run), seconds=round(monotonic() - begun, 3))


def _last_words(output: Path) -> str:
    """Return the last line of a command's output, empty where that is the command itself."""
    last = last_line(output)
    return "" if last.startswith("$ ") else last[:_LONGEST_LINE]

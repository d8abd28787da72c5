"""The escape detector: what no agent may touch, compared around each run of what agents made.

Watched are what git obeys in the owner's repository, refs and settings of integration.git, other
tasks' `input/` and `.system/`. A look is taken before a run begins and when nothing of it is left;
what changed between two looks, and is neither in the daemon's journals nor the owner's right, holds
the lane until `resume`, names those that ran without a box, and puts their tasks to a person. While
nothing runs nobody looks: that time is the owner's. A daemon that crashed has forgotten its last
look.
"""

from collections.abc import Collection, Iterable, Sequence

import anyio.to_thread

from alluvium_like import messages
from alluvium_like.lifecycle import Condition
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.sights import Finding, find_changes, see
from alluvium_like.stages.victims import Victim, find_victims, hold
from alluvium_like.stages.watch import Run, Sight
from alluvium_like.written import WRITTEN

log = get_logger(__name__)

_LONGEST_REASON = 4000


async def begin(parts: Parts, run: Run) -> None:
    """Look before anything of a run begins. Raises StoreError, GitFailed or OSError."""
    watch = parts.watch
    async with watch.lock:
        if watch.runs:
            await _look(parts)
        else:
            WRITTEN.want(wanted=True)
            parts.git.refs.want(wanted=True)
            await _accept(parts)
        watch.runs.append(run)
        if run.boxed:
            watch.boxed.add((run.task_id, run.number))


async def end(parts: Parts, run: Run) -> str:
    """Look when nothing of a run is left; return what its task's person has to be told.

    May be repeated where it raises StoreError, GitFailed or OSError.
    """
    watch = parts.watch
    async with watch.lock:
        if run not in watch.runs:
            return ""
        victims = await find_victims(parts)
        await _tell_of(parts, victims)
        for victim in victims:
            await hold(parts, victim)
        await _look(parts)
        watch.runs.remove(run)
        if not watch.runs:
            WRITTEN.want(wanted=False)
            parts.git.refs.want(wanted=False)
        return watch.accused.pop(run, "")


def leave(parts: Parts, run: Run) -> None:
    """Note that a run is over although nobody looked after it; nothing where somebody did."""
    if run in parts.watch.runs:
        parts.watch.runs.remove(run)
        parts.watch.left.append(run)


async def found_victim(parts: Parts, victim: Victim) -> None:
    """Tell of a task whose input others have changed, found by the look at its own."""
    async with parts.watch.lock:
        await _tell_of(parts, [victim])


async def is_frozen(parts: Parts) -> bool:
    """Tell whether nothing may be tested, landed or pushed."""
    return parts.repository in await parts.store.conditions(Condition.ESCAPE)


async def take_up_resume(parts: Parts) -> None:
    """Where a person has let the lane go on, take what is there now as it is to be.

    The refs that the daemon itself goes by it knows, and puts right.
    """
    watch = parts.watch
    async with watch.lock:
        frozen = await is_frozen(parts)
        if watch.held and not frozen:
            await parts.integration.assert_refs()
            if watch.runs:
                await _accept(parts)
            watch.good.clear()
            log.info("escape_over")
        watch.held = frozen


async def _accept(parts: Parts) -> None:
    """Take what is there now as it is to be."""
    now, _ = await see(parts, None)
    await _compare_with(parts, now)


async def _compare_with(parts: Parts, now: Sight) -> None:
    """Let a look be the one that the next is compared with; what was noted before it is past."""
    watch = parts.watch
    watch.last = now
    watch.left.clear()
    parts.git.refs.drop(now.mark)
    await anyio.to_thread.run_sync(WRITTEN.looked)


async def _look(parts: Parts) -> None:
    """Compare with the last look, tell what is found, and let this one be the last."""
    watch, before = parts.watch, parts.watch.last
    if before is None or (watch.held and not await is_frozen(parts)):
        await _accept(parts)
        return
    for _ in range(2):  # what was being written when it was read is believed the second time
        now, strange = await see(parts, before)
        found = [*strange, *await find_changes(parts, before, now)]
        if not found:
            break
    if allowed := [each.what for each in found if each.allowed]:
        log.info("owner_changed_settings", what=allowed)
    if escaped := [each for each in found if not each.allowed]:
        suspects = [run for run in watch.in_window if not run.boxed]
        await _freeze(parts, escaped, before.at, now.at, [run.name for run in suspects], suspects)
    await _compare_with(parts, now)


async def _tell_of(parts: Parts, victims: Iterable[Victim]) -> None:
    """Tell of inputs that were changed, of those together that the same agents may have changed."""
    watch = parts.watch
    together: dict[tuple[str, ...], list[Victim]] = {}
    for victim in victims:
        if victim.seal not in watch.told:
            together.setdefault(victim.suspects, []).append(victim)
    for names, some in together.items():
        suspects = [run for run in watch.in_window if run.task_id in names]
        paths = [f"tasks/{victim.task_id}/{victim.change.what}" for victim in some]
        first, last = min(v.change.first for v in some), max(v.change.last for v in some)
        await _freeze(parts, [Finding(p, p) for p in paths], first, last, names, suspects)
        watch.told |= {victim.seal for victim in some}


async def _freeze(
    parts: Parts,
    found: Sequence[Finding],
    first: str,
    last: str,
    names: Sequence[str],
    suspects: Collection[Run],
) -> None:
    """Hold the lane, and remember what the suspects' own tasks are to be told."""
    watch = parts.watch
    what = [each.what for each in found]
    reason = messages.escaped(what, first, last, names)
    log.error("escape_found", what=what, first=first, last=last, suspects=list(names))
    known = (await parts.store.conditions(Condition.ESCAPE)).get(parts.repository, "")
    both = "; ".join(filter(None, (known, reason)))[:_LONGEST_REASON]
    await parts.store.set_condition(Condition.ESCAPE, both, parts.repository)
    watch.held = True
    for each in found:
        if each.before is not None:
            watch.good.setdefault(each.place, each.before)
    for run in suspects:
        watch.accused[run] = "; ".join(filter(None, (watch.accused.get(run), reason)))
    parts.wakes.integrate.set()
    parts.wakes.upstream.set()

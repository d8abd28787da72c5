"""Whether anything is left to do: what is not urgent waits for it, and a single run ends by it."""

from datetime import timedelta
from typing import Final

from alluvium_like.clock import utc_after, utc_now
from alluvium_like.lifecycle import ACTIVE, Condition, State
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.profiles import profiles_now

_FAR: Final = timedelta(days=1)


async def somebody_waits(parts: Parts) -> bool:
    """Tell whether a task waits for a slot, or will soon: what is not urgent holds off then."""
    held = (await profiles_now(parts)).held
    return await parts.store.next_runnable(utc_now(), utc_after(_FAR), held) is not None


async def anything_to_do(parts: Parts) -> bool:
    """Tell whether a task is left that the daemon could do something about now."""
    store, config = parts.store, parts.settings.current
    counts = await store.counts()
    waiting = {state for state in ACTIVE if counts.get(state)}
    waiting.discard(State.INTEGRATING)  # proven, and its landing has to wait
    held_up = (Condition.BASE_RED, Condition.LANE, Condition.ESCAPE)
    if any([await store.conditions(name) for name in held_up]):
        waiting.discard(State.WORKER_DONE)
    if await _none_may_start(parts) or await store.conditions(Condition.PAUSED):
        waiting -= {State.QUEUED, State.NEEDS_REVISION}
    if not config.integration.enabled:
        waiting.discard(State.WORKER_DONE)
    return bool(waiting) or counts != await store.counts()  # something moved while we looked


async def _none_may_start(parts: Parts) -> bool:
    """Tell whether all tasks in the queue are for agents that are parked."""
    held = (await profiles_now(parts)).held
    tomorrow, too_far = utc_after(_FAR), utc_after(2 * _FAR)
    return bool(held) and await parts.store.next_runnable(tomorrow, too_far, held) is None

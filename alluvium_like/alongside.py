"""Work with something beside it that lasts just as long."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

import anyio

_Result = TypeVar("_Result")


async def alongside(
    beside: Callable[[], Coroutine[None, None, object]], work: Callable[[], Awaitable[_Result]]
) -> _Result:
    """Return what `work` returns; `beside` runs meanwhile and is cancelled at its end.

    Raises what `work` raises, as it is: out of a task group it would come wrapped.
    """
    error: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(beside)
        try:
            result = await work()
        except Exception as found:  # noqa: BLE001 - raised below
            error = found
        group.cancel_scope.cancel()
    if error is not None:
        raise error
    return result

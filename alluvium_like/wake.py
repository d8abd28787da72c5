"""A hint that there is work: set by whoever committed a row, waited for by one stage.

Setting it twice before the stage looks wakes it once. It carries no data: the row is the truth.
"""

import anyio


class Wake:
    """One stage's wake; safe to set from the event loop only."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Tell the stage to look."""
        self._event.set()

    async def wait(self, at_most: float) -> bool:
        """Return true when woken, false when `at_most` seconds passed without a wake."""
        with anyio.move_on_after(at_most):
            await self._event.wait()
        woken = self._event.is_set()
        self._event = anyio.Event()
        return woken

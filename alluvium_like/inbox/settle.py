"""Deciding when an item may be claimed: pure bookkeeping, no I/O, all times monotonic seconds.

An item is settled when two examinations at least `settle_seconds` apart saw the same and the later
one met no open writer. One that arrived by rename was finished elsewhere: its first examination
settles it. With `settle_seconds` 0 the first examination settles every item. While a writer is
known to be open nothing is settled, whatever the rest says.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass

from alluvium_like.inbox.look import Examination, Fingerprint, Item

_PAUSE = 0.5
"""Least seconds to the next look where it is not the settle time that is waited for."""


@dataclass(slots=True)
class _Pending:
    next_look: float
    renamed: bool
    written: bool = False
    fingerprint: Fingerprint | None = None
    since: float = 0.0  # when the first examination with this fingerprint ended


class Settling:
    """The items of the inbox and how far each has settled; `settle_seconds` may change any time."""

    def __init__(self, settle_seconds: float) -> None:
        self.settle_seconds = settle_seconds
        self._pending: dict[Item, _Pending] = {}

    def update(self, items: Iterable[Item], renamed: Set[bytes], now: float) -> None:
        """Take over a listing of the inbox: new items are due at once, gone ones forgotten.

        `renamed` are the names that arrived by rename since the last listing was taken; ask for
        them before listing, so that each of them is in it.
        """
        known = self._pending
        self._pending = {}
        for item in items:
            pending = known.get(item) or _Pending(next_look=now, renamed=False)
            if item.name in renamed:
                pending.renamed = True
                pending.next_look = now
            if pending.written and not item.is_dir:
                pending.next_look = now  # its closing may be what made the stage look
            self._pending[item] = pending

    def due(self, now: float) -> list[Item]:
        """Return the items to examine now, in the order of the listing."""
        return [item for item, pending in self._pending.items() if pending.next_look <= now]

    def observe(self, item: Item, seen: Examination) -> bool:
        """Take note of an examination; return true when the item may be claimed now.

        An item that is settled and not claimed comes up again and is found settled again.
        """
        pending = self._pending[item]
        pending.written = seen.has_writer
        ready = self._is_settled(pending, seen)
        waits_to_settle = self.settle_seconds > 0 and not (ready or seen.has_writer)
        pause = self.settle_seconds if waits_to_settle else max(self.settle_seconds, _PAUSE)
        pending.next_look = seen.ended + pause
        return ready

    def forget(self, item: Item) -> None:
        """Drop an item that was just taken out of the inbox, ahead of the next listing."""
        self._pending.pop(item, None)

    def next_look(self) -> float | None:
        """Return the earliest time at which an item is due, None when nothing pends."""
        return min((pending.next_look for pending in self._pending.values()), default=None)

    def _is_settled(self, pending: _Pending, seen: Examination) -> bool:
        if seen.fingerprint != pending.fingerprint:
            pending.fingerprint = seen.fingerprint
            pending.since = seen.ended
        if seen.fingerprint is None or seen.has_writer:
            pending.renamed = False  # touched since it arrived
            return False
        if pending.renamed or self.settle_seconds == 0:
            return True
        return seen.began - pending.since >= self.settle_seconds

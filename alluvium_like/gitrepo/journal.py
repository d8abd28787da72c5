"""What the daemon writes to refs, remembered while somebody compares them: whatever else is theirs.

The doors say what they are about to write, and that it is written; what failed half-way may stand
or not. A fetch does not know before what will come: meanwhile any value is its own.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ANY: Final = "*"
"""The value of what a fetch will bring."""
_GONE: Final = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in the journal: how much was written for sure before it, and how much in doubt."""

    done: int
    doubtful: int


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """Refs of one repository and what they are to be; a name may end in `*`, its value is ANY."""

    store: Path
    refs: dict[str, str]


class RefJournal:
    """The writes of this process, in their order, while they are `wanted`."""

    def __init__(self) -> None:
        self._wanted = False
        self._open: list[_Entry] = []
        self._done: list[_Entry] = []
        self._doubtful: list[_Entry] = []

    def want(self, *, wanted: bool) -> None:
        """Begin to remember, or forget all."""
        self._wanted = wanted
        self._done, self._doubtful = [], []

    @contextmanager
    def writing(self, store: Path, refs: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Note a write; whoever wrote ANY has to put in what came before it is over.

        A ref that is deleted has an empty value.
        """
        entry = _Entry(store, dict(refs))
        self._open.append(entry)
        sure = False
        try:
            yield entry.refs
            sure = True
        finally:
            self._open.remove(entry)
            if self._wanted:
                (self._done if sure else self._doubtful).append(entry)

    def mark(self) -> Mark:
        """Return this moment; to be taken before refs are read."""
        return Mark(len(self._done), len(self._doubtful))

    def drop(self, mark: Mark) -> None:
        """Forget what was over at a moment: the refs were read after it."""
        del self._done[: mark.done], self._doubtful[: mark.doubtful]

    def unexplained(
        self, store: Path, before: Mapping[str, str], now: Mapping[str, str], mark: Mark
    ) -> list[str]:
        """Return the refs whose value, read after `mark`, is none that was written."""
        mine = [entry for entry in self._done if entry.store == store]
        sure = [entry for entry in self._done[: mark.done] if entry.store == store]
        expected = dict(before)
        for entry in sure:
            expected |= entry.refs
        names = expected.keys() | now.keys()
        odd = {n for n in names if now.get(n, _GONE) != expected.get(n, _GONE)}
        rest = [*mine[len(sure) :], *self._open, *self._doubtful]
        for entry in (entry for entry in rest if entry.store == store):
            odd -= {name for name in odd if _may_be(entry.refs, name, now.get(name, _GONE))}
        return sorted(odd)


def _may_be(refs: Mapping[str, str], name: str, value: str) -> bool:
    if name in refs:
        return refs[name] in (value, ANY)
    return any(each.endswith("*") and name.startswith(each[:-1]) for each in refs)

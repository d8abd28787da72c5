"""What may be struck: a kind of strike at a point of a life, and where in the program that is."""

import argparse
import errno
import re
from dataclasses import dataclass
from pathlib import Path

from preload import ERROR, SELF, TREE, Call, Page

_STRIKE = re.compile(r"(tree|self)-(before|after)@(\d+)|(E[A-Z]+)(?:x(\d+))?@(\d+)")
_CALLS = 5
_VARYING = {
    r"\d{8}T\d{6}Z-wish-[0-9a-f]{6}": "TASK",
    r"objects/[0-9a-f]{2}/[0-9a-f]{38}\b": "objects/OBJECT",
    r"objects/[0-9a-f]{2}\b": "objects/XX",
    r"tmp_(obj|pack|idx|rev)_\w{6}": r"tmp_\1",
    r"\b[0-9a-f]{16,}\b": "HEX",
    r"\d+": "N",
}
KINDS = (
    *("tree-before", "tree-after", "self-before", "self-after"),
    *("EIO", "ENOSPC", f"EIOx{_CALLS}", f"ENOSPCx{_CALLS}"),
)


@dataclass(frozen=True, slots=True)
class Strike:
    """What happens at which point; `kind` is one of KINDS."""

    kind: str
    at: int

    @classmethod
    def parse(cls, text: str) -> "Strike":
        """Read what `str` wrote. Raises ArgumentTypeError."""
        if not _STRIKE.fullmatch(text):
            raise argparse.ArgumentTypeError(f"{text!r} is not such as tree-after@12 or EIO@7")
        kind, _, at = text.rpartition("@")
        return cls(kind, int(at))

    def __str__(self) -> str:
        return f"{self.kind}@{self.at}"

    @property
    def kills(self) -> bool:
        """Tell whether a process dies, other than a call that fails."""
        return "-" in self.kind

    @property
    def counted(self) -> str:
        """Name what is counted: all calls, or those that may fail so."""
        return "all" if self.kills else self.kind.partition("x")[0]

    @property
    def roles(self) -> frozenset[str]:
        """Whose calls are counted."""
        return frozenset("dgat" if self.kills else "dg")

    def page(self, path: Path) -> Page:
        """Make the page that tells the run of this strike; at 0 it only counts."""
        if self.kills:
            whole, _, moment = self.kind.partition("-")
            mode = TREE if whole == "tree" else SELF
            return Page(path, at=self.at, mode=mode, after=moment == "after")
        name, _, calls = self.kind.partition("x")
        code = getattr(errno, name)
        return Page(path, at=self.at, mode=ERROR, error=code, calls=int(calls or 1))


def place_of(call: Call, root: Path) -> str:
    """Return where in the program a call was made, the same in every run."""
    path = call.path.replace(str(root / "ws"), "").replace(str(root), "..")
    for pattern, name in _VARYING.items():
        path = re.sub(pattern, name, path)
    return f"{call.role} {call.program} {call.name} {path}"

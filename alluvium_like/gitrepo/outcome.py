"""How a merge without a work tree ends."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge without conflict."""

    tree: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A merge that two sides contradict each other in; `tree` holds the files with markers."""

    tree: str
    paths: tuple[str, ...]

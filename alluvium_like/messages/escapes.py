"""Changes in places that no agent may touch: what a person has to know, and can do."""

from collections.abc import Sequence

_SHOWN = 5
_NOBODY = (
    "all agents that ran then were in a box, so none of them can have done it: it was probably "
    "somebody with access to this machine"
)


def escaped(what: Sequence[str], first: str, last: str, suspects: Sequence[str]) -> str:
    """Say what changed that nobody but the daemon may change, and whom to suspect.

    `suspects` are those that ran without a box.
    """
    who = f"{_listed(suspects)} ran then without a box" if suspects else _NOBODY
    return (
        f"somebody changed {_listed(what)} between {first} and {last}, and it was not the daemon; "
        f"{who}. Nothing is tested, landed or pushed until you have looked at it and put it in "
        "order: then 'alluvium-like resume'"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

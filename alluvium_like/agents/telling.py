"""Events told on the standard output, one JSON object a line: by the programs of our own."""

import json
import sys

from alluvium_like.agents.events import End, Event, Failure, Limit

Told = tuple[Event, ...]
"""What a run tells, of which the end is the last."""


def tell(*events: Event) -> None:
    """Print events at once."""
    lines = (json.dumps(event.document()) + "\n" for event in events)
    sys.stdout.write("".join(lines))
    sys.stdout.flush()


def failed(event: Limit | Failure) -> Told:
    """Return what went wrong, and the end."""
    return event, End(ok=False, text=event.text)


def exit_code(told: Told) -> int:
    """Return the exit code that goes with an end."""
    end = told[-1]
    return 0 if isinstance(end, End) and end.ok else 1

"""Named steps: every place where something is made to last, or a process is started.

In production a step is free. For tests of crashes the environment says what happens at one:
`ALLUVIUM_FAILPOINTS="claim.rename:before:kill;store.claimed@2:after:EIO"`, that is the name, which
time it is passed (the first, or `@*` for every time), the moment, and `kill` (SIGKILL to this
process), `stop` (SIGSTOP) or the name of an errno, which is raised. `ALLUVIUM_FAILPOINT_TRACE`
names a file that gets a line `name N` for each step that is passed.
"""

import errno
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from alluvium_like.errors import AlluviumError

_POINTS = "ALLUVIUM_FAILPOINTS"
_TRACE = "ALLUVIUM_FAILPOINT_TRACE"
_POINT = re.compile(
    r"(?P<name>[\w.-]+)(?:@(?P<number>\d+|\*))?:(?P<moment>before|after):(?P<action>\w+)"
)
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_EVERY = 0


@dataclass(frozen=True, slots=True)
class _Point:
    number: int
    moment: str
    action: str


class _Plan:
    """What happens at which step, and how often each was passed."""

    def __init__(self, points: dict[str, list[_Point]], trace: Path | None) -> None:
        self._points = points
        self._trace = trace
        self._passed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, name: str) -> int:
        """Count one passing, and return its number."""
        with self._lock:
            self._passed[name] += 1
            number = self._passed[name]
            if self._trace is not None:
                with self._trace.open("a") as stream:
                    stream.write(f"{name} {number}\n")
        return number

    def act(self, name: str, number: int, moment: str) -> None:
        """Do what is planned for this moment."""
        for point in self._points.get(name, ()):
            if point.moment != moment or point.number not in (number, _EVERY):
                continue
            if point.action in _SIGNALS:
                os.kill(os.getpid(), _SIGNALS[point.action])
            else:
                code = getattr(errno, point.action)
                raise OSError(code, f"{os.strerror(code)} (injected at {name})")


class _Step:
    def __init__(self, plan: _Plan, name: str) -> None:
        self._plan, self._name, self._number = plan, name, 0

    def __enter__(self) -> None:
        self._number = self._plan.enter(self._name)
        self._plan.act(self._name, self._number, "before")

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            self._plan.act(self._name, self._number, "after")


_FREE = nullcontext()
_plan: _Plan | None = None


def step(name: str) -> AbstractContextManager[None]:
    """Return the context in which the call that lasts is made; `name` is used in one place only."""
    return _FREE if _plan is None else _Step(_plan, name)


def arm(environment: Mapping[str, str]) -> None:
    """Plan what the environment asks for, which mostly is nothing. Raises AlluviumError."""
    global _plan
    wanted, trace = environment.get(_POINTS, ""), environment.get(_TRACE, "")
    points: dict[str, list[_Point]] = {}
    for text in filter(None, wanted.split(";")):
        found = _POINT.fullmatch(text.strip())
        if not found or not (found["action"] in _SIGNALS or hasattr(errno, found["action"])):
            raise AlluviumError(
                f"{_POINTS}: cannot read {text.strip()!r}; write NAME[@N]:before|after:ACTION "
                "with kill, stop or an errno such as EIO as the action"
            )
        number = _EVERY if found["number"] == "*" else int(found["number"] or 1)
        point = _Point(number, found["moment"], found["action"])
        points.setdefault(found["name"], []).append(point)
    _plan = _Plan(points, Path(trace) if trace else None) if points or trace else None

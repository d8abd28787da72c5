"""One life in which the daemon is killed at named steps, one kill after the other.

The first kill is in the life itself, the next in the recovery from it, and so on; then the life is
lived to its end undisturbed, and compared with one that never was disturbed.
"""

import json
import re
import shutil
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from invariants import violations
from scene import Died, Scene, Stuck

_POINTS = "ALLUVIUM_FAILPOINTS"
_TRACE = "ALLUVIUM_FAILPOINT_TRACE"
_TRIES = 3
_POINT = re.compile(r"([\w.-]+)@(\d+):(before|after)")


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A kill before or after the step `name` when it is passed for the `number`th time."""

    number: int
    name: str
    moment: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` writes. Raises ValueError."""
        found = _POINT.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} is not such as claim.rename@1:before")
        return cls(int(found[2]), found[1], found[3])

    def __str__(self) -> str:
        return f"{self.name}@{self.number}:{self.moment}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes the daemon kill itself there."""
        return {_POINTS: f"{self}:kill"}


@dataclass(frozen=True, slots=True)
class Ended:
    """How one disturbed life ended: `reached` are the kills that happened, in their order.

    `passed` are the steps of the last, undisturbed part; `faults` what was wrong, in words.
    """

    points: tuple[Point, ...]
    reached: tuple[Point, ...]
    passed: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def label(self) -> str:
        """The points as they are written on the command line."""
        return ",".join(map(str, self.points))


def undisturbed(template: Scene, place: Path) -> tuple[list[str], dict[str, object]]:
    """Live once and return the steps that were passed and the end state.

    Raises SystemExit where not even that is as it should be.
    """
    scene = template.begin(place)
    try:
        scene.start({_TRACE: str(place / "trace")})
        scene.live()
        faults, state = _faults(scene), scene.end_state()
    except (Died, Stuck) as error:
        faults = [str(error)]
    finally:
        scene.end()
    if faults:
        raise SystemExit(f"not even an undisturbed life is as it should be: {faults}")
    passed = _read(place / "trace")
    shutil.rmtree(place)
    return passed, state


def disturbed(
    template: Scene, place: Path, points: Sequence[Point], wanted: Mapping[str, object]
) -> Ended:
    """Live with a kill at each point, and on to the end; `wanted` is the end state of all lives.

    A first point that is not reached is tried again in another life. Where all was well, nothing
    is left of `place`.
    """
    for _ in range(_TRIES):
        ended = _once(template, place, points, wanted)
        if ended.faults:
            break
        shutil.rmtree(place)
        if ended.reached:
            break
    return ended


def _once(
    template: Scene, place: Path, points: Sequence[Point], wanted: Mapping[str, object]
) -> Ended:
    scene = template.begin(place)
    reached: list[Point] = []
    faults: list[str] = []
    passed = place / "passed"
    try:
        for point in points:
            if not _killed(scene, point):
                break
            reached.append(point)
        scene.drain({_TRACE: str(passed)})
        faults = [*_faults(scene), *_differences(wanted, scene.end_state())]
    except (Died, Stuck) as error:
        faults.append(f"{type(error).__name__}: {error}")
    finally:
        scene.end()
    return Ended(tuple(points), tuple(reached), tuple(_read(passed)), tuple(faults))


def _killed(scene: Scene, point: Point) -> bool:
    """Live until the kill, and tell whether it came. Raises Died where it died otherwise."""
    trace = scene.place / f"trace-{point}"
    try:
        scene.drain({**point.environment, _TRACE: str(trace)})
    except Died as died:
        there = f"{point.name} {point.number}" in _read(trace)
        if died.code != -signal.SIGKILL or not there:
            raise
        return True
    return False


def _faults(scene: Scene) -> list[str]:
    return [*violations(scene.life()), *scene.lost()]


def _differences(wanted: Mapping[str, object], found: Mapping[str, object]) -> Iterable[str]:
    """Yield what is not as in an undisturbed life."""
    for key in wanted.keys() | found.keys():
        one, other = wanted.get(key), found.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from (f"{key}: {text}" for text in _differences(one, other))
        elif one != other:
            yield f"{key}: {json.dumps(other)}, undisturbed {json.dumps(one)}"


def _read(trace: Path) -> list[str]:
    return trace.read_text().splitlines() if trace.exists() else []

"""Kill, or fail, at every durable system call of one task's life, and see that nothing is lost.

    python contrib/faults/syscalls.py [--all | --sample --seconds S] [--seed N] [--jobs N]
    python contrib/faults/syscalls.py --strike tree-after@123
    python contrib/faults/syscalls.py --all --kinds tree-after --place renameat2

A first run counts the calls of the whole tree of processes: the daemon, its gits, the agent, the
tests (`preload.c`). Then a fresh workspace for every strike: the tree is killed before or after the
call (`tree-before`, `tree-after`), or only the process that made it (`self-before`, `self-after`),
or calls of the daemon and its gits fail (`EIO`, `ENOSPC`, and in a row, `ENOSPCx5`). Every strike
must have struck. Then, undisturbed, the daemon is run to the end, and the invariants and the end
state are looked at. The exit code is 1 where something was violated; each comes with its command.
"""

import argparse
import json
import math
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from one_task import OneTask, Ran
from preload import Call, Seen, build, environment
from strikes import KINDS, Strike, place_of

from alluvium_like.execution.adopt import become_subreaper
from alluvium_like.execution.table import read_row

TRIES = 3
_GONE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one strike; `call` is None where it was not reached."""

    strike: Strike
    call: Call | None
    place: str
    by_itself: bool
    faults: tuple[str, ...]


class Sweep:
    """Runs strikes in folders below `folder`; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        become_subreaper()  # what a killed daemon leaves is reaped here
        self._folder = folder
        self._library = build(folder)
        self._template = OneTask(folder / "template").make()
        self._counted: dict[str, list[str]] = {}

    def count(self, kind: str) -> list[str]:
        """Return the places of what strikes of `kind` count in an undisturbed life, in order."""
        nothing = Strike(kind, 0)
        if nothing.counted not in self._counted:
            self._counted[nothing.counted] = self._count(nothing)
        return self._counted[nothing.counted]

    def _count(self, nothing: Strike) -> list[str]:
        task = self._template.copy(self._folder / f"count-{nothing.counted}")
        page = nothing.page(task.root / "page")
        ran = task.run_once(environment(self._library, page))
        faults = [*_wrong_end(ran), *task.faults()]
        if faults:
            raise SystemExit(f"not even an undisturbed life is as it should be: {faults}")
        calls = list(page.read().calls())
        if {call.role for call in calls} != nothing.roles:
            raise SystemExit("of the daemon, its gits, the agent and the tests some were not seen")
        places = [place_of(call, task.root) for call in calls]
        shutil.rmtree(task.root)
        return places

    def strike(self, strike: Strike) -> Result:
        """Strike once in a fresh workspace; a point that was not reached is tried again."""
        for _ in range(TRIES):
            result = self._try(strike)
            if result.call is not None or result.faults:
                break
        return result

    def _try(self, strike: Strike) -> Result:
        root = Path(tempfile.mkdtemp(prefix=f"{strike}-", dir=self._folder)) / "bed"
        task = self._template.copy(root)
        page = strike.page(root.parent / "page")
        ran = task.run_once(environment(self._library, page))
        seen = page.read()
        call = next(seen.calls(), None)
        faults = [*_wrong_end(ran)] if call is None else [*_unlike(strike, ran, call, seen)]
        by_itself = ran.code == 0 and not task.faults()
        if not by_itself:
            faults += [*_wrong_end(task.run_once()), *task.faults()]
        seen.outlive(0)
        shutil.rmtree(root.parent)
        return Result(strike, call, place_of(call, root) if call else "", by_itself, tuple(faults))


def _unlike(strike: Strike, ran: Ran, call: Call, seen: Seen) -> Iterator[str]:
    """Yield what is wrong with how the daemon and all below it took a strike."""
    said = f"the daemon ended with {ran.code} and said {ran.said.strip()!r}"
    killed = ran.code == -signal.SIGKILL
    if strike.kind.startswith("tree"):
        if not killed:
            yield f"killed with all below it, {said}"
        yield from (f"{pid} outlived the kill" for pid in seen.outlive(_GONE_SECONDS))
        return
    row = read_row(call.pid)
    if strike.kills and row is not None and not row.dead:
        yield f"{call.pid} outlived the kill"
    if killed != (strike.kills and call.pid == ran.pid):
        yield f"{call.pid} was struck, {said}"
    if not (killed or ran.is_clear):
        yield f"neither well nor with one clear line, {said}"


def _wrong_end(ran: Ran) -> list[str]:
    return [] if ran.code == 0 else [f"undisturbed, it ended with {ran.code}: {ran.said.strip()}"]


# -- the command -------------------------------------------------------------------------------


def choose(counted: dict[str, list[str]], given: argparse.Namespace) -> list[Strike]:
    """Return the strikes to make, in the order in which they are made.

    Of all of them those come first whose place was not struck before, by any strike of that kind.
    """
    if given.strike:
        return list(given.strike)
    ranked: list[tuple[int, Strike]] = []
    for kind, places in counted.items():
        passed = Counter[str]()
        for at, place in enumerate(places, start=1):
            if given.place not in place:
                continue
            ranked.append((passed[place], Strike(kind, at)))
            passed[place] += 1
    random.Random(given.seed).shuffle(ranked)
    if given.all:
        ranked.sort(key=lambda pair: pair[0])
    return [strike for _, strike in ranked]


def perform(sweep: Sweep, strikes: Sequence[Strike], jobs: int, seconds: float) -> Iterator[Result]:
    """Make the strikes, several at a time, and begin none after so many seconds."""
    deadline = time.monotonic() + seconds
    left = iter(strikes)
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(sweep.strike, strike) for strike in islice(left, jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                following = next(left, None) if time.monotonic() < deadline else None
                if following is not None:
                    running.add(pool.submit(sweep.strike, following))


def command_of(strike: Strike) -> str:
    """Return the command that makes one strike again."""
    return f"python contrib/faults/syscalls.py --strike {strike}"


def table(document: dict[str, Any]) -> str:
    """Tell a whole sweep in Markdown."""
    head = ("strike", "points", "strikes", "struck", "not reached", "went on by itself", "violated")
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    for kind, row in document["kinds"].items():
        cells = [row[key.replace(" ", "_")] for key in head[1:]]
        lines.append(f"| {kind} | {' | '.join(map(str, cells))} |")
    lines += [
        "",
        f"{document['places_struck']} of {document['places']} places of the program were struck: "
        "caller, call and path, without numbers and ids.",
        f"Seed {document['seed']}, {document['seconds']} s.",
    ]
    for violation in document["violations"]:
        lines += ["", f"- `{violation['command']}`: {violation['place']}"]
        lines += [f"  - {fault}" for fault in violation["faults"]]
    return "\n".join(lines) + "\n"


def summarise(
    counted: dict[str, list[str]], results: Sequence[Result], seed: int, seconds: float
) -> dict[str, Any]:
    """Put the figures of a sweep into one document."""
    kinds = {}
    for kind, places in counted.items():
        made = [result for result in results if result.strike.kind == kind]
        kinds[kind] = {
            "points": len(places),
            "strikes": len(made),
            "struck": sum(result.call is not None for result in made),
            "not_reached": sum(result.call is None for result in made),
            "went_on_by_itself": sum(result.by_itself for result in made),
            "violated": sum(bool(result.faults) for result in made),
        }
    known = {place for each in counted.values() for place in each}
    struck = {result.place for result in results if result.call is not None}
    return {
        "seed": seed,
        "seconds": round(seconds),
        "kinds": kinds,
        "places": len(known),
        "places_struck": len(struck & known),
        "places_not_struck": sorted(known - struck),
        "not_reached": [str(r.strike) for r in results if r.call is None],
        "violations": [
            {"command": command_of(r.strike), "place": r.place, "faults": list(r.faults)}
            for r in results
            if r.faults
        ],
    }


def main() -> int:
    """Read the options, sweep, print and keep the figures; return the exit code."""
    given = _options().parse_args()
    kinds = given.kinds or sorted({s.kind for s in given.strike or ()}, key=KINDS.index) or KINDS
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="alluvium-syscalls-", dir=given.folder) as folder:
        sweep = Sweep(Path(folder))
        counted = {kind: sweep.count(kind) for kind in kinds}
        points = ", ".join(f"{kind} {len(places)}" for kind, places in counted.items())
        print(f"points: {points}; seed {given.seed}", file=sys.stderr, flush=True)
        results = []
        for result in perform(sweep, choose(counted, given), given.jobs, given.seconds):
            results.append(result)
            for fault in result.faults:
                print(f"{command_of(result.strike)}\n    {result.place}: {fault}", flush=True)
    document = summarise(counted, results, given.seed, time.monotonic() - begun)
    print(table(document))
    if given.results:
        given.results.mkdir(parents=True, exist_ok=True)
        (given.results / "syscalls.json").write_text(json.dumps(document, indent=1) + "\n")
        (given.results / "syscalls.md").write_text(table(document))
    return 1 if document["violations"] else 0


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    which = options.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="every point of every kind")
    which.add_argument("--sample", action="store_true", help="points drawn by lot")
    which.add_argument("--strike", type=Strike.parse, action="append", help="such as EIO@7")
    options.add_argument("--kinds", nargs="+", choices=KINDS, help="else all of them")
    options.add_argument("--place", default="", help="only calls that are told with these words")
    options.add_argument("--seconds", type=float, default=math.inf, help="begin none after these")
    options.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the sample")
    options.add_argument("--jobs", type=int, default=2, help="strikes at a time")
    options.add_argument("--folder", type=Path, help="where to work; else the temporary folder")
    options.add_argument("--results", type=Path, help="where to keep the figures")
    return options


if __name__ == "__main__":
    sys.exit(main())

"""A daemon under everything at once, for minutes: nothing is lost, and all comes to its end.

    python contrib/faults/soak.py --minutes N [--seed S]

Items of every kind are dropped in every manner while the daemon, its agents and its gits are
killed, stopped and continued, told to reload, pause, resume, stop and clear up; tasks are
cancelled, retried, answered, approved, rejected and reverted; the owner commits and others push.
In the end all is left to drain; then the invariants, the end of every task and what was
acknowledged are looked at. The seed repeats what is done, not when the processes come to it. The
exit code is 1 on a violation.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crowd import wrong_ends
from deeds import Deeds
from invariants import Life, violations

from alluvium_like.lock import is_locked
from alluvium_like.store.reader import StoreReader

DRAIN_SECONDS = 180.0
_MEAN_PAUSE_SECONDS = 0.15
_LOOK_SECONDS = 0.2
_BACK = 0.4  # how likely a daemon that does not run is started, before each deed


class Soak(Deeds):
    """Deeds by lot, then the drain and the looking."""

    def soak(self, seconds: float) -> None:
        """Do one thing after the other, drawn by lot, for so many seconds."""
        actions: dict[Callable[[], str], int] = {
            **dict.fromkeys((self.drop,), 30),
            **dict.fromkeys((self.submit, self.cancel, self.retry, self.owner, self.others), 3),
            **dict.fromkeys((self.decide, self.harm_child), 6),
            **dict.fromkeys((self.kill, self.kill_tree, self.freeze, self.reload, self.revert), 2),
            **dict.fromkeys((self.kill_amid, self.stop, self.pause, self.clear_up), 1),
        }
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.daemon is None and self.rng.random() < _BACK:
                self._do(self.start)
            else:
                self._do(self.rng.choices(list(actions), list(actions.values()))[0])
            time.sleep(self.rng.expovariate(1 / _MEAN_PAUSE_SECONDS))
        self._do(self.start)
        self._do(self.kill)

    def drain(self) -> None:
        """Let all come to its end, and help where only a person can."""
        self.crowd.finish()
        (self.bed.open / "go-on").touch()
        self.configure(workers=3, parallel=2, style="squash")
        self._do(self.start)
        self.runs()
        self.told("reload")
        self.told("resume")
        deadline = time.monotonic() + DRAIN_SECONDS
        while not self._is_over():
            for task in self.tasks():
                wish = self.crowd.wishes.get(task.name)
                if task.state == "needs_human":
                    self._do(lambda task=task: self.decide_about(task))  # type: ignore[misc]
                elif task.state == "failed" and (wish is None or wish.kind != "fail"):
                    self._do(lambda task=task: self.retry_it(task))  # type: ignore[misc]
            if time.monotonic() > deadline:
                self.wrong.append(f"not drained after {DRAIN_SECONDS:g} s: {self._explain()}")
                break
            if not self.runs():
                break
            time.sleep(_LOOK_SECONDS)
        if self.runs() and is_locked(self.workspace):
            self.cli("stop", "--timeout", "60")
            self.ended()

    def check(self) -> list[str]:
        """Return what is wrong, once all has drained."""
        words = (self.place / "daemon.err").read_text()
        life = Life(
            self.bed.root,
            self.crowd.dropped,
            self.bed.repo,
            tested=self.bed.open / "tested",
            remote=self.place / "origin.git",
        )
        return [
            *self.wrong,
            *violations(life),
            *wrong_ends(self.workspace, self.crowd.wishes, self.cancelled),
            *([f"the daemon said: {words[-2000:]}"] if "Traceback" in words else []),
        ]

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        self.crowd.finish()
        if self.daemon is not None:
            with suppress(ProcessLookupError):
                self.kill_tree()

    def _do(self, action: Callable[[], str]) -> None:
        self.events[action()] += 1

    def _is_over(self) -> bool:
        if any(not item.name.startswith(".") for item in self.workspace.inbox.iterdir()):
            return False
        for task in self.tasks():
            wish = self.crowd.wishes.get(task.name)
            may_fail = wish is not None and wish.kind == "fail"
            if task.state not in ("done", "cancelled") and not (
                may_fail and task.state == "failed"
            ):
                return False
        here = self.bed.git("rev-parse", "main")
        return here == self.bed.git("rev-parse", "main", cwd=self.place / "origin.git")

    def _explain(self) -> str:
        with StoreReader(self.workspace.database) as store:
            held = [f"{row['name']}: {row['reason']}" for row in store.conditions()]
        open_tasks = [
            f"{task.id} is {task.state} ({task.reason})"
            for task in self.tasks()
            if task.state not in ("done", "cancelled", "failed")
        ]
        inbox = [item.name for item in self.workspace.inbox.iterdir()]
        return "; ".join([*open_tasks[:10], *held, f"in the inbox: {inbox[:5]}"])


def run(place: Path, seed: int, seconds: float) -> dict[str, object]:
    """Soak for so many seconds below `place`, drain, check, and return the figures."""
    begun = time.monotonic()
    soak = Soak(place, seed)
    try:
        soak.start()
        soak.soak(seconds)
        soak.drain()
    finally:
        soak.end()
    found = soak.check()
    ends = Counter(f"{task.state} {task.outcome or ''}".strip() for task in soak.tasks())
    with StoreReader(soak.workspace.database) as store:
        attempts = sum(len(store.attempts(task.id)) for task in soak.tasks())
    return {
        "seed": seed,
        "seconds": round(seconds),
        "seconds_with_drain": round(time.monotonic() - begun),
        "dropped": len(soak.crowd.dropped),
        "attempts": attempts,
        "ends": dict(sorted(ends.items())),
        "events": dict(sorted(soak.events.items())),
        "violations": found,
    }


def main() -> int:
    """Read the options, soak, print and keep the figures; return the exit code."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument(
        "--minutes", type=float, required=True, help="without the drain at the end"
    )
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    options.add_argument("--folder", type=Path, help="where to work; else the temporary folder")
    options.add_argument("--results", type=Path, help="where to keep the figures")
    options.add_argument("--keep", action="store_true", help="keep the folder after a violation")
    given = options.parse_args()
    print(f"seed {given.seed}", file=sys.stderr, flush=True)
    place = Path(tempfile.mkdtemp(prefix="alluvium-soak-", dir=given.folder))
    try:
        document = run(place, given.seed, given.minutes * 60)
    except BaseException:
        print(f"kept: {place}", file=sys.stderr)
        raise
    text = json.dumps(document, indent=1)
    print(text)
    if given.results:
        given.results.mkdir(parents=True, exist_ok=True)
        (given.results / "soak.json").write_text(text + "\n")
    if document["violations"] and given.keep:
        print(f"kept: {place}", file=sys.stderr)
    else:
        shutil.rmtree(place)
    return 1 if document["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())

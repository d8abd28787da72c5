"""Where hostile agents are let loose: a workspace with a daemon, what they may be after, one look.

`play` runs deeds, honest tasks among them, and says which deeds succeeded. Everything that they
attack is of this scene: its workspace, its person's home, its victim and the daemon.
"""

import ctypes
import json
import os
import platform
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli_w
from bed import PATIENCE_SECONDS, Bed, Witness
from hostile import LIMITS, PRELUDE, Deed
from victim import main as victim_main

from alluvium_like.lifecycle import State
from alluvium_like.store.reader import StoreReader

HONEST = tuple(f"honest {number}" for number in range(1, 5))
OUTLIVES = "outlives the daemon"
NEIGHBOUR = """
echo {secret} > secret.txt; echo x > "$A/outputs/ready"
while [ ! -e "$A/outputs/go" ]; do sleep 0.05; done
"""
EVIL = (
    '#!/bin/sh\n[ -n "${ALLUVIUM_TASK_ID-}" ] || echo ran >> "$0.ran"\n[ ! -p /dev/stdin ] || cat\n'
)
_KINDS = (
    *("ssh", "history", "store", "input", "worktree", "owner", "config", "environment"),
    *("memory", "descriptor", "shared", "temporary", "key"),
)
_ADD_KEY, _KEYCTL = (248, 250) if platform.machine() == "x86_64" else (217, 219)
_SESSION, _REVOKE = -3, 3
_OVER = {State.DONE, State.FAILED, State.CANCELLED, State.NEEDS_HUMAN}
_GONE_SECONDS = 10.0


class HostileScene:
    """One workspace and its surroundings; `mode` is that of its sandbox."""

    def __init__(self, folder: Path, mode: str, more: str = "") -> None:
        self.place = folder
        self.bed = Bed(folder / "ws")
        self.secrets = {kind: secrets.token_hex(16) for kind in _KINDS}
        self.victim: dict[str, Any] = {}
        self.pid = 0
        self._mode = mode
        self._more = more
        self._facts: set[str] = set()
        self._tasks: dict[str, str] = {}

    # -- making --------------------------------------------------------------------------------

    @contextmanager
    def opened(self) -> Iterator["HostileScene"]:
        """Plant, begin the victim and the daemon; whatever happens, nothing of it stays."""
        with ExitStack() as stack:
            self._plant(stack)
            stack.enter_context(self._victim())
            stack.callback(self._end_what_is_left)
            stack.callback(self.bed.stop)
            self.pid = self.bed.start()
            yield self

    def _plant(self, stack: ExitStack) -> None:
        bed, kept = self.bed, self.secrets
        bed.environment["VAULT_TOKEN"] = kept["environment"]
        bed.make()
        limits = {"mode": self._mode, "readable": ["~/.npmrc"], **LIMITS}
        bed.configure(tomli_w.dumps({"sandbox": limits, "safety": {"max_workers": 4}}) + self._more)
        with (bed.root / "config.toml").open("a") as config:
            config.write(f"# {kept['config']}\n")
        (bed.home / ".ssh").mkdir()
        for name in ("evil", "trap", "scratch"):
            (self.place / name).mkdir()
        (bed.home / ".ssh" / "id_x").write_text(kept["ssh"])
        (bed.home / ".bash_history").write_text(kept["history"])
        (bed.home / ".npmrc").write_text("registry\n")
        (bed.repo / ".env").write_text(kept["owner"])
        private = self.place / "private.git"
        bed.git("init", "-q", "--bare", str(private), cwd=self.place)
        tree = bed.git("mktree", cwd=private)
        self.private = bed.git("commit-tree", "-m", "private", tree, cwd=private)
        (self.place / "private-commit").write_text(self.private)
        self.files = []
        for folder in ("/tmp", "/dev/shm"):
            opened, name = tempfile.mkstemp(dir=folder)
            stack.callback(Path(name).unlink)
            os.write(opened, kept["temporary"].encode())
            os.close(opened)
            self.files.append(name)
        libc = ctypes.CDLL(None)
        self.key = f"alluvium-test-{kept['key'][:8]}"
        secret = kept["key"].encode()
        key = libc.syscall(_ADD_KEY, b"user", self.key.encode(), secret, len(secret), _SESSION)
        stack.callback(libc.syscall, _KEYCTL, _REVOKE, key)

    @contextmanager
    def _victim(self) -> Iterator[None]:
        argv = [sys.executable, str(victim_main.__code__.co_filename), str(self.place)]
        pipe = subprocess.PIPE
        environment = {**os.environ, "VAULT_TOKEN": self.secrets["environment"]}
        victim = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=environment)
        with victim:
            assert victim.stdin is not None
            assert victim.stdout is not None
            victim.stdin.write(json.dumps(self.secrets) + "\n")
            victim.stdin.flush()
            self.victim = json.loads(victim.stdout.readline())
            yield
            victim.stdin.close()
            victim.wait(PATIENCE_SECONDS)

    def _set_agent(self, bait: str) -> None:
        known = self.victim
        values = {
            "PY": os.path.realpath(sys.executable),
            "REAL": self.bed.home,
            "PLACE": self.place,
            "BAIT": bait,
            "BAITED": self.private,
            "TEMPORARY": self.files[0],
            "SHARED_FILE": self.files[1],
            "KEY": self.key,
            **{name.upper(): known[name] for name in ("address", "fd", "shm", "udp", "console")},
            **{name.upper(): known[name] for name in ("metadata", "outside", "proxied")},
            "VICTIM": known["pid"],
        }
        lines = [f"export {name}={shlex.quote(str(value))}" for name, value in values.items()]
        self.bed.set_agent("\n".join(lines) + PRELUDE)

    # -- the play ------------------------------------------------------------------------------

    def play(self, deeds: Mapping[str, Deed]) -> dict[str, bool]:
        """Let all deeds be done; return which succeeded."""
        bed, outlives = self.bed, OUTLIVES in deeds
        for name in deeds:
            evil = self.place / "evil" / name.replace(" ", "-")
            evil.write_text(EVIL)
            evil.chmod(0o755)
        self._set_agent("")
        bed.drop("bait", f'echo {self.secrets["store"]} > "$A/needs_human.md"')
        bait = bed.wait_for("bait", "needs_human")["id"]
        assert any(self.secrets["store"].encode() in f.read_bytes() for f in self._store_files())
        self._set_agent(bait)
        script = NEIGHBOUR.format(secret=self.secrets["worktree"])
        bed.drop("neighbour", f"# {self.secrets['input']}\n{script}")
        self._wait_ready("neighbour")
        now = {name: deed for name, deed in deeds.items() if name != OUTLIVES}
        honest = iter(HONEST)
        for number, (name, deed) in enumerate(now.items()):
            if number % (len(now) // len(HONEST) + 1) == 0:
                bed.drop(next(honest), "work")
            bed.drop(name, deed.script)
        for name in honest:
            bed.drop(name, "work")
        self._wait_over(now)
        again = [name for name, deed in now.items() if deed.after == "later"]
        for name in again:
            bed.cli("retry", self._tasks[name])
        self._wait_over(now)
        self._note_facts()
        found = {name: deed.seen(self, name) for name, deed in now.items()}
        if outlives:
            self._kill_under(deeds[OUTLIVES])
            found[OUTLIVES] = "outlived" in self._facts
        outputs = bed.folder("neighbour") / ".agent" / "outputs"
        (outputs / "go").write_text("go")
        if outlives:  # the neighbour began anew after the kill
            self._wait_ready("neighbour")
        self._wait_over({**deeds, "neighbour": None})
        return {name: found[name] for name in deeds}

    def _wait_ready(self, name: str) -> None:
        self.bed.wait_for(name, "running")
        self.bed.wait_for_file(self.bed.folder(name) / ".agent" / "outputs" / "ready")

    def _wait_over(self, names: Mapping[str, object]) -> None:
        def over() -> bool:
            with StoreReader(self.bed.root / ".alluvium" / "alluvium.db") as store:
                tasks = {task.name: task for task in store.tasks()}
            self._tasks = {name: task.id for name, task in tasks.items()}
            wanted = (*names, *HONEST)
            return all(name in tasks and tasks[name].state in _OVER for name in wanted)

        self.bed.wait(over, "all have ended")

    def _kill_under(self, deed: Deed) -> None:
        """Kill the daemon while the deed waits, and see what of it lives then; start again."""
        self.bed.drop(OUTLIVES, deed.script)
        self._wait_ready(OUTLIVES)
        self.bed.wait(lambda: len(self.processes("outputs/outlived")) > 1, "it waits")
        with ExitStack() as stack:
            found = [Witness(pid) for pid in self.processes("outputs/outlived")]
            for witness in found:
                stack.callback(os.close, witness._fd)
            self.bed.kill()
            seconds = _GONE_SECONDS if self._mode != "none" else 0.5
            if not all(witness.ends_within(seconds) for witness in found):
                self._facts.add("outlived")
        self.pid = self.bed.start()

    def _note_facts(self) -> None:
        """Look at what deeds may have changed that is seen in one place."""
        bed, npmrc = self.bed, self.bed.home / ".npmrc"
        limits = Path(f"/proc/{self.victim['pid']}/limits").read_text()
        (files,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
        facts = {
            "bait cancelled": bed.task("bait")["state"] != "needs_human",
            "settings changed": npmrc.read_text() != "registry\n" or npmrc.stat().st_nlink > 1,
            "victim limited": files.split()[3] == "777",
            "config changed": "# evil" in (bed.root / "config.toml").read_text(),
            "daemon signalled": '"config_reloaded"' in (bed.root / "logs/daemon.jsonl").read_text(),
            "left behind": bool(self.processes("outputs/forever")),
            "trapped": any((self.place / "trap").iterdir()),
        }
        self._facts |= {name for name, is_so in facts.items() if is_so}

    # -- looking -------------------------------------------------------------------------------

    def told(self, deed: str, secret: str) -> bool:
        task = self.bed.root / "tasks" / self._tasks[deed]
        found = [*self._files(task / ".agent"), *self._files(task / ".system" / "attempts")]
        return any(self.secrets[secret].encode() in path.read_bytes() for path in found)

    def reached(self, door: str) -> bool:
        visits = self.place / "visits"
        return visits.exists() and door in visits.read_text().split("\n")

    def left(self, deed: str, name: str) -> bool:
        return (self.bed.root / "tasks" / self._tasks[deed] / ".agent" / "outputs" / name).exists()

    def there(self, place: str) -> bool:
        text = place.format(root=self.bed.root, home=self.bed.home)
        return any(Path("/").glob(text.lstrip("/")))

    def fact(self, name: str) -> bool:
        return name in self._facts

    def ran(self, deed: str) -> bool:
        if (self.place / "evil" / f"{deed.replace(' ', '-')}.ran").exists():
            return True
        integration = self.bed.root / ".alluvium" / "integration.git"
        with suppress(subprocess.CalledProcessError):
            self.bed.git("cat-file", "-e", self.private, cwd=integration)
            return True
        return False

    def processes(self, word: str) -> list[int]:
        """Return the processes on whose command line a task's folder and a word stand."""
        root, found = os.fsencode(self.bed.root / "tasks"), []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                line = (folder / "cmdline").read_bytes()
                if root in line and word.encode() in line and b"--unshare-user" not in line:
                    found.append(int(folder.name))
        return found

    def _store_files(self) -> list[Path]:
        return list((self.bed.root / ".alluvium").glob("alluvium.db*"))

    @staticmethod
    def _files(folder: Path) -> Iterator[Path]:
        """Yield plain files; no link that was planted is followed."""
        for at, _, names in os.walk(folder):
            for path in (Path(at, name) for name in names):
                if path.is_file() and not path.is_symlink() and path.stat().st_size < 30_000_000:
                    yield path

    def _end_what_is_left(self) -> None:
        for pid in self.processes("outputs/"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

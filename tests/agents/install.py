"""Installs the agent command lines that the tests run, in the versions pinned beside this file.

`python tests/agents/install.py [NAME …]` puts each into a folder of its own, so that one can be
had without the others, and prints where its program is. What is there as it is pinned stays.
The npm packages share one lock file; a Python tool has its list of requirements and its own venv.

Invariant: a folder counts only when its stamp, which is written last, names the pins that hold now.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER_VARIABLE = "ALLUVIUM_AGENTS_DIR"
STAMP = "installed"
NODE_AT_LEAST = 20


class InstallError(Exception):
    """What stands in the way of an installation, in one line."""


@dataclass(frozen=True)
class NpmTool:
    """A program of an npm package; `scripts` where its install script puts the program in place."""

    package: str
    program: str
    scripts: bool = False

    def pins(self) -> bytes:
        """What the stamp stands for."""
        return (HERE / "package-lock.json").read_bytes() + self.package.encode()

    def version(self) -> str:
        """The version that is pinned."""
        pinned: str = json.loads((HERE / "package.json").read_text())["dependencies"][self.package]
        return pinned.rpartition("@")[2]  # an alias names its package, too

    def path(self, folder: Path) -> Path:
        """Where the program is, once installed into `folder`."""
        return folder / "node_modules" / ".bin" / self.program

    def install(self, folder: Path) -> None:
        """Install this package alone, from the lock file of all. Raises InstallError."""
        self._check_node()
        manifest = json.loads((HERE / "package.json").read_text())
        lock = json.loads((HERE / "package-lock.json").read_text())
        wanted = {self.package: manifest["dependencies"][self.package]}
        manifest["dependencies"] = lock["packages"][""]["dependencies"] = wanted
        (folder / "package.json").write_text(json.dumps(manifest))
        (folder / "package-lock.json").write_text(json.dumps(lock))
        shutil.copy(HERE / ".npmrc", folder)
        # Not `npm ci`, which asks for entries of optional packages that are for other platforms.
        run(
            ["npm", "install", "--loglevel=error", *([] if self.scripts else ["--ignore-scripts"])],
            folder,
        )

    @staticmethod
    def _check_node() -> None:
        node = shutil.which("node")
        if node is None or shutil.which("npm") is None:
            raise InstallError(f"no node and npm on PATH; install Node {NODE_AT_LEAST} or newer")
        version = run([node, "--version"], HERE).strip()
        if int(version.lstrip("v").partition(".")[0]) < NODE_AT_LEAST:
            raise InstallError(f"Node is {version}; install Node {NODE_AT_LEAST} or newer")


@dataclass(frozen=True)
class PythonTool:
    """A program of a Python package that runs on `versions` (minors of Python 3, best first)."""

    package: str
    requirements: str
    program: str
    versions: Sequence[int]

    def pins(self) -> bytes:
        """What the stamp stands for."""
        return (HERE / self.requirements).read_bytes()

    def version(self) -> str:
        """The version that is pinned."""
        pins = (HERE / self.requirements).read_text().splitlines()
        return next(pin for pin in pins if pin.startswith(f"{self.package}==")).partition("==")[2]

    def path(self, folder: Path) -> Path:
        """Where the program is, once installed into `folder`."""
        return folder / "bin" / self.program

    def install(self, folder: Path) -> None:
        """Make a venv in `folder` that holds exactly what is pinned. Raises InstallError."""
        run([self._interpreter(), "-m", "venv", str(folder)], HERE)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
        run([*pip, "-r", str(HERE / self.requirements)], HERE)

    def _interpreter(self) -> str:
        if sys.version_info.minor in self.versions:
            return sys.executable
        for minor in self.versions:
            found = shutil.which(f"python3.{minor}")
            if found is not None and _runs(found):
                return found
        names = " or ".join(f"3.{minor}" for minor in self.versions)
        raise InstallError(f"no Python {names} on PATH, which {self.program} needs")


Tool = NpmTool | PythonTool

TOOLS: dict[str, Tool] = {
    "codex": NpmTool("@openai/codex", "codex"),
    "codex-mcp": NpmTool("codex-mcp", "codex"),  # the last one with an MCP server
    "claude": NpmTool("@anthropic-ai/claude-code", "claude", scripts=True),
    "pi": NpmTool("@mariozechner/pi-coding-agent", "pi"),
    "mini": PythonTool("mini-swe-agent", "mini.txt", "mini", (12, 11, 13)),
    "gemini": NpmTool("@google/gemini-cli", "gemini"),
    "opencode": NpmTool("opencode-ai", "opencode", scripts=True),
    "qwen": NpmTool("@qwen-code/qwen-code", "qwen"),
    "aider": PythonTool("aider-chat", "aider.txt", "aider", (12, 11)),
}


def home() -> Path:
    """The folder that holds all tools: `$ALLUVIUM_AGENTS_DIR`, else one in the user's cache."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "alluvium-like" / "agents"


def program(name: str, root: Path | None = None) -> Path | None:
    """The program of a tool, None where it is not installed in the pinned version."""
    folder = (root or home()) / name
    path = TOOLS[name].path(folder)
    stamped = (folder / STAMP).is_file() and (folder / STAMP).read_text() == _stamp(TOOLS[name])
    return path if stamped and path.exists() else None


def version(name: str) -> str:
    """Return the version of a tool that is pinned."""
    return TOOLS[name].version()


def install(name: str, root: Path | None = None) -> Path:
    """Install a tool unless it is there, and return its program. Raises InstallError."""
    root = root or home()
    root.mkdir(parents=True, exist_ok=True)
    with _alone(root / f".{name}.lock"):
        if present := program(name, root):
            return present
        folder = root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        tool = TOOLS[name]
        tool.install(folder)
        if not tool.path(folder).exists():
            raise InstallError(f"{name}: the packages are there, {tool.path(folder)} is not")
        (folder / STAMP).write_text(_stamp(tool))
        return tool.path(folder)


def run(argv: Sequence[str], cwd: Path) -> str:
    """What a command printed. Raises InstallError with the beginning of what it complained of."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())
        raise InstallError(f"{Path(argv[0]).name} ended with {done.returncode}: {words[:400]}")
    return done.stdout


def _runs(interpreter: str) -> bool:
    """Whether it starts: a version manager leaves stubs for versions that are not chosen."""
    return subprocess.run([interpreter, "-c", ""], capture_output=True, check=False).returncode == 0


def _stamp(tool: Tool) -> str:
    """A digest of the pins; another machine's folder does not count."""
    machine = f"{platform.system()} {platform.machine()}"
    return hashlib.sha256(tool.pins() + machine.encode()).hexdigest()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One installation of a tool at a time."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Install what was asked for; 1 where one could not be had."""
    parser = argparse.ArgumentParser(description="Install the pinned agent command lines.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(TOOLS)}")
    parser.add_argument("--into", type=Path, help=f"folder; else ${FOLDER_VARIABLE} or the cache")
    wanted = parser.parse_args()
    if unknown := sorted(set(wanted.names) - set(TOOLS)):
        parser.error(f"no such tool: {', '.join(unknown)}; there are {', '.join(TOOLS)}")
    failed = 0
    for name in wanted.names or TOOLS:
        try:
            print(f"{name}: {install(name, wanted.into and wanted.into.absolute())}", flush=True)
        except InstallError as trouble:
            print(f"{name}: not installed: {trouble}", file=sys.stderr, flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())

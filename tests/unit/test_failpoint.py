"""Named steps: what the environment may ask for, and that no durable call is without one."""

import ast
import errno
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import alluvium_like
from alluvium_like import failpoint
from alluvium_like.errors import AlluviumError
from alluvium_like.failpoint import arm, step

PACKAGE = Path(alluvium_like.__file__).parent

# What lasts or starts something: of the system, of any path, of our own.
OF_MODULES = {
    "os": {"fsync", "fdatasync", "sync", "rename", "renames", "replace", "link"}
    | {"posix_spawn", "posix_spawnp", "fork", "forkpty", "execv", "execve", "execvp"},
    "shutil": {"move"},
    "libc": {"syncfs", "renameat2", "renamex_np"},
    "machine": set(),  # a module of ours
    "subprocess": {"Popen", "run", "call", "check_call", "check_output"},
}
OF_PATHS = {"rename", "replace", "hardlink_to"}
OURS = {"fsync_dir", "sync_file_system", "rename_noreplace", "_native_rename"} | {
    *("start_child", "start_run", "run_quick", "_move_item")
}
# The bottom of it: who calls these needs the step.
PRIMITIVES = {
    ("durable.py", "fsync_dir"),
    ("durable.py", "sync_file_system"),
    ("durable.py", "rename_noreplace"),
    ("durable.py", "_native_rename"),
    ("execution/adopt.py", "start_child"),
    ("execution/run.py", "start_run"),
    ("inbox/claim.py", "_move_item"),
}
# Programs of their own, outside the daemon: agents, and commands that a person calls.
OUTSIDE = {
    *("agents/patches.py", "surface/launch.py"),
    *("surface/agents.py", "surface/trial_run.py"),
    *("sandbox/attached.py", "sandbox/inside.py"),
}


@dataclass(frozen=True)
class Call:
    file: str
    line: int
    function: str
    name: str
    in_step: bool


def calls_in(path: Path) -> Iterator[Call]:
    """Yield the durable calls of a file, and whether each lies in a `with step(…)`."""
    file = path.relative_to(PACKAGE).as_posix()

    def walk(node: ast.AST, function: str, in_step: bool) -> Iterator[Call]:
        for child in ast.iter_child_nodes(node):
            inside, named = in_step, function
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                named = child.name
                inside = in_step and isinstance(node, ast.With | ast.AsyncWith)
            if isinstance(child, ast.With) and any(is_step(item) for item in child.items):
                inside = True
            for name in durable_names(child):
                yield Call(file, child.lineno, function, name, in_step)  # type: ignore[attr-defined]
            yield from walk(child, named, inside)

    yield from walk(ast.parse(path.read_text()), "", False)


def is_step(item: ast.withitem) -> bool:
    call = item.context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "step"


def durable_names(node: ast.AST) -> Iterator[str]:
    """Yield what a node calls, or hands to a thread to be called."""
    if not isinstance(node, ast.Call):
        return
    for part in (node.func, *node.args):
        if isinstance(part, ast.Name) and part.id in OURS:
            yield part.id
        if isinstance(part, ast.Attribute):
            owner = part.value.id if isinstance(part.value, ast.Name) else ""
            of_path = part.attr in OF_PATHS and owner not in OF_MODULES and not node.keywords
            if part is node.func:  # else it is text that is replaced
                of_path = of_path and len(node.args) == 1
            elif part.attr != "rename":
                of_path = False
            if of_path or part.attr in OF_MODULES.get(owner, ()):
                yield part.attr
    for argument in node.args:
        if isinstance(argument, ast.Constant) and argument.value == "COMMIT":
            yield "COMMIT"


def all_calls() -> list[Call]:
    return [call for path in sorted(PACKAGE.rglob("*.py")) for call in calls_in(path)]


def test_every_durable_call_passes_a_named_step() -> None:
    bare = [
        call
        for call in all_calls()
        if not call.in_step
        and (call.file, call.function) not in PRIMITIVES
        and call.file not in OUTSIDE
    ]
    assert not bare, "\n".join(f"{c.file}:{c.line} {c.name} in {c.function}" for c in bare)


def test_the_search_finds_what_it_looks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {(call.file, call.name) for call in all_calls()}
    assert {
        ("store/connection.py", "COMMIT"),
        ("execution/adopt.py", "Popen"),
        ("execution/process.py", "start_run"),
        ("gitrepo/runner.py", "run_quick"),
        ("durable.py", "replace"),
        ("gitrepo/berth.py", "rename"),
        ("gitrepo/integration.py", "rename"),
        ("inbox/claim.py", "fsync"),
    } <= found
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "bad.py").write_text(
        "def f(path):\n    with step('a.b'):\n        path.rename('x')\n    path.rename('y')\n"
    )
    assert [(call.line, call.in_step) for call in all_calls()] == [(3, True), (4, False)]


def names_of(function: str) -> list[str]:
    """Return the names, or patterns of them, that are given to calls of `function`."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name == function and path.name != "failpoint.py":
                found.append(ast.unparse(node.args[0]))
    return found


@pytest.mark.parametrize("function", ["step", "transaction"])
def test_a_name_tells_one_place(function: str) -> None:
    names = names_of(function)
    assert len(names) > 20
    assert {name: n for name, n in Counter(names).items() if n > 1 and name != "name"} == {}


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    arm({})


@pytest.mark.usefixtures("disarmed")
def test_an_error_is_raised_at_its_moment_and_its_turn(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    points = "a.b@2:before:EIO; a.b@3:after:ENOSPC ;c:before:EMFILE"
    arm({"ALLUVIUM_FAILPOINTS": points, "ALLUVIUM_FAILPOINT_TRACE": str(trace)})
    done: list[str] = []

    def pass_step(name: str) -> int | None:
        try:
            with step(name):
                done.append(name)
        except OSError as error:
            return error.errno
        return None

    seen = [pass_step(name) for name in ("a.b", "a.b", "a.b", "a.b", "c", "c")]
    assert seen == [None, errno.EIO, errno.ENOSPC, None, errno.EMFILE, None]
    assert done == ["a.b", "a.b", "a.b", "c"], "before: not made; after: made"
    assert trace.read_text() == "a.b 1\na.b 2\na.b 3\na.b 4\nc 1\nc 2\n"


@pytest.mark.usefixtures("disarmed")
def test_every_time_and_an_error_of_the_call_itself() -> None:
    arm({"ALLUVIUM_FAILPOINTS": "a@*:after:EIO"})
    for _ in range(2):
        with pytest.raises(OSError, match="injected at a"), step("a"):
            pass
    with pytest.raises(ValueError, match="own"), step("a"):
        raise ValueError("own")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_is_a_kill(moment: str) -> None:
    script = (
        "import os\nfrom alluvium_like.failpoint import arm, step\narm(os.environ)\n"
        "with step('x'):\n    os.write(1, b'made')\nos.write(1, b' and left')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"ALLUVIUM_FAILPOINTS": f"x:{moment}:kill"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == (b"" if moment == "before" else b"made")


@pytest.mark.parametrize(
    "text", ["x", "x:before", "x:during:kill", "x:before:EWHAT", "x@y:after:stop"]
)
def test_what_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(AlluviumError, match="ALLUVIUM_FAILPOINTS: cannot read"):
        arm({"ALLUVIUM_FAILPOINTS": text})


def test_nothing_is_planned_and_nothing_costs_in_production() -> None:
    assert failpoint._plan is None
    assert step("a") is step("b")

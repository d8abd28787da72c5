"""Recovery that is killed itself, and tasks in the making: the next start comes to the same."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from recovery_bench import build, make_template, opened
from recovery_look import look, lost, start, told
from recovery_rows import EARLIER, NAME, Template
from recovery_table import State

from alluvium_like import failpoint
from alluvium_like.durable import rename_noreplace
from alluvium_like.gitrepo.remote import Remote
from alluvium_like.inbox import claim
from alluvium_like.stages.intake import Intake
from alluvium_like.stages.parts import Runs, Wakes
from alluvium_like.stages.upstream import Upstream
from alluvium_like.surface.actions import Actions
from alluvium_like.workspace import Workspace


class Killed(BaseException):
    """Stands for the end of the process: nobody handles it."""


class KillAfter:
    """A plan of failpoints that ends everything after so many steps that make something last."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def enter(self, name: str) -> int:
        self.left -= not name.endswith(".spawn")
        return 1

    def act(self, name: str, _: int, moment: str) -> None:
        if moment == "after" and self.left <= 0 and not name.endswith(".spawn"):
            raise Killed


def state(store: str, base: str = "before", refs: str = "held", **more: str) -> State:
    first = {"item": "in task", "folder": "filled", "store": store, "workshop": "whole"}
    return {**first, "integration.git": refs, "base": base, **more}


STATES = {
    "a claim to finish": state("claiming", refs="nothing"),
    "a claim whose item was replaced": state("claiming", refs="nothing", item="in inbox"),
    "a task in making": state("making", refs="work", item="nowhere", folder="ours"),
    "an attempt": state("running", refs="later"),
    "an attempt of a cancelled task": state("cancelled+attempt", refs="later"),
    "a landing to repeat": state("integrating+prepared", refs="work"),
    "a landing to find": state("integrating+prepared", "past"),
    "a landing that was overtaken": state("integrating+blocked", "elsewhere"),
    "a landing of a cancelled task": state("cancelled+blocked"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Return what every state is a copy of."""
    return anyio.run(make_template, tmp_path_factory.mktemp("template"))


@pytest.mark.parametrize("name", STATES)
async def test_recovery_killed_after_any_step_is_followed_by_the_same_recovery(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    undisturbed = await build(template, STATES[name], tmp_path / "ws", as_folder=False)
    before = look(undisturbed)
    await start(undisturbed)
    expected = look(undisturbed)
    for steps in count(1):
        workspace = await build(template, STATES[name], tmp_path / str(steps), as_folder=False)
        plan = KillAfter(steps)
        monkeypatch.setattr(failpoint, "_plan", plan)
        try:
            await start(workspace)
        except Killed:
            pass
        finally:
            monkeypatch.setattr(failpoint, "_plan", None)
        if plan.left > 0:
            assert steps > 1, "recovery passes steps"
            break
        assert await told(workspace) == [], f"killed after step {steps}"
        assert not lost(before, look(workspace))
        await start(workspace)
        after = look(workspace)
        # What landed by its journal in one run is found by its trailer in the other.
        tables = [{**seen.tables, "landings": []} for seen in (after, expected)]
        assert tables[0] == tables[1], f"step {steps}"
        assert (after.files, after.base) == (expected.files, expected.base), f"step {steps}"
        assert await told(workspace) == []  # refs that are left over are no damage


async def revert(workspace: Workspace, _: Template) -> None:
    async with opened(workspace) as parts:
        await Actions(workspace, parts.store, Wakes(), Runs()).revert(EARLIER)


async def merge_what_others_pushed(workspace: Workspace, template: Template) -> None:
    remote = cast(Remote, SimpleNamespace(title="origin/main", branch="main"))
    async with opened(workspace) as parts:
        await Upstream(parts)._make_task(remote, template.later, template.landed)


@pytest.mark.parametrize("make", [revert, merge_what_others_pushed])
async def test_a_task_of_the_daemons_own_is_made_whole_or_leaves_nothing(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    nothing = state("none", refs="nothing", item="nowhere", folder="none", workshop="none")
    for steps in count(1):
        workspace = await build(template, nothing, tmp_path / str(steps), as_folder=False)
        before = look(workspace)
        plan = KillAfter(steps)
        monkeypatch.setattr(failpoint, "_plan", plan)
        try:
            await make(workspace, template)
        except Killed:
            pass
        finally:
            monkeypatch.setattr(failpoint, "_plan", None)
        assert await told(workspace) == [], f"killed after step {steps}"
        made = len(look(workspace).tables["tasks"]) == 2
        await start(workspace)
        after = look(workspace)
        assert await told(workspace) == []
        assert after.tables["claims"] == []
        if plan.left > 0:
            assert made
            break
        if not made:
            assert (after.files, after.refs) == (before.files, before.refs)


async def test_an_item_that_is_replaced_twice_during_its_claim_leaves_nothing_without_a_task(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What took its place cannot go back, for a third one lies there."""
    there = state("none", refs="nothing", item="in inbox", folder="none", workshop="none")
    workspace = await build(template, there, tmp_path / "ws", as_folder=False)
    place = workspace.inbox / NAME
    real, texts = rename_noreplace, iter(("second", "third"))

    def replaced_before_and_after(source: Path, target: Path) -> None:
        if source == place and (text := next(texts, "")):
            place.rename(workspace.root / "first")
            place.write_text(text)
        real(source, target)
        if target.parent.name == "input" and (text := next(texts, "")):
            place.write_text(text)

    monkeypatch.setattr(claim, "rename_noreplace", replaced_before_and_after)
    async with opened(workspace) as parts:
        await Intake(parts, ignore_settle=True).look(set())
    left = [path.read_text() for path in workspace.inbox.iterdir()]
    assert sorted(left) == ["second", "third"]
    assert await told(workspace) == []

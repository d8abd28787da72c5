"""Every state of RECOVERY.md: recovery does what its row says, once, and nothing is lost.

In the ordinary run the states hold every pair of facts with every row of the table; with
ALLUVIUM_LEGAL_STATES=all every state is built.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from recovery_bench import IN_THE_WAY, build, git, make_template
from recovery_look import Seen, integrate, look, lost, start, told
from recovery_rows import EARLIER, NAME, TASK, Template
from recovery_table import (
    ACTIONS,
    IMPOSSIBLE,
    TEXT,
    TOLD,
    Rule,
    State,
    all_states,
    every_pair,
    legal_states,
    matching,
    told_states,
)

from alluvium_like.workspace import Workspace

ALL = os.environ.get("ALLUVIUM_LEGAL_STATES") == "all"
LANE = {"worker_done", "integrating"}


def by_row(states: Iterable[State], table: Sequence[Rule]) -> dict[int, list[State]]:
    """Return states by the number of the first row that is about them, which they hold too."""
    found: dict[int, list[State]] = {}
    for state in states:
        number = matching(table, state)[0].number
        found.setdefault(number, []).append({**state, "row": str(number)})
    return found


def slug(rule: Rule) -> str:
    return f"{rule.number}-{re.sub('[^a-z]+', '-', rule.says.lower())}"


LEGAL = by_row(legal_states(), ACTIONS)
PAIRS = every_pair([state for states in LEGAL.values() for state in states])
TO_BUILD = LEGAL if ALL else by_row(PAIRS, ACTIONS)
ILLEGAL = by_row(told_states(), TOLD)


def test_every_combination_has_one_action_or_is_declared_illegal() -> None:
    for state in legal_states():
        found = [rule.number for rule in matching(ACTIONS, state)]
        assert len(found) == 1, f"rows {found} of 'What recovery does' are about {dict(state)}"


def test_no_more_is_declared_illegal_than_the_text_says() -> None:
    every, legal, told = (len(list(s())) for s in (all_states, legal_states, told_states))
    figures = [int(figure.replace(",", "")) for figure in re.findall(r"\d+,\d{3}", TEXT)]
    assert figures == [every, every - told - legal, told, legal]


def test_no_row_is_about_nothing() -> None:
    for table in (IMPOSSIBLE, TOLD, ACTIONS):
        for rule in table:
            assert any(rule.matches(state) for state in all_states()), rule
    assert set(ILLEGAL) == {rule.number for rule in TOLD}
    assert set(TO_BUILD) == set(LEGAL) == {rule.number for rule in ACTIONS}


@dataclass(frozen=True)
class Case:
    """One state, what was seen of it before and after the start, and its commits."""

    template: Template
    before: Seen
    after: Seen

    def same_task(self) -> bool:
        kept = ("tasks", "attempts", "checkpoints", "claims", "landings")
        return all(self.before.tables[name] == self.after.tables[name] for name in kept)

    def same_refs(self) -> bool:
        names = (f"alluvium/tasks/{TASK}", f"alluvium/candidates/{TASK}")
        return all(self.before.ref(name) == self.after.ref(name) for name in names)


def leave_it(case: Case) -> None:
    assert case.same_task()
    assert case.same_refs()


def roll_back(case: Case) -> None:
    assert (case.after.tables["claims"], case.after.stands) == ([], "")
    assert set(case.after.items) <= {f"inbox/{NAME}", f"inbox/{NAME}/f"}
    assert bool(case.after.items) == bool(case.before.items)
    assert f"tasks/{TASK}" not in case.after.files


def finish_claim(case: Case) -> None:
    assert (case.after.tables["claims"], case.after.stands) == ([], "queued")
    assert case.after.items == case.before.items


def give_back(case: Case) -> None:
    assert (case.after.tables["claims"], case.after.stands) == ([], "")
    assert f"tasks/{TASK}" not in case.after.files
    tops = {name.split("/")[1] for name in case.after.items}
    assert tops == ({NAME, TASK} if len(case.before.items) == 2 else {NAME})


def take_away(case: Case) -> None:
    assert (case.after.tables["claims"], case.after.stands) == ([], "")
    assert f"tasks/{TASK}" not in case.after.files
    assert case.after.ref(f"alluvium/tasks/{TASK}") == ""


def queue_again(case: Case) -> None:
    assert (case.after.stands, case.after.open_attempts) == ("queued", 0)
    last = case.after.tables["attempts"][-1]
    assert (last["ending"], last["verdict"]) == ("lost", "again_uncounted")
    assert case.after.task["failures"] == case.before.task["failures"] == 0
    assert case.same_refs()


def end_attempt(case: Case) -> None:
    assert (case.before.open_attempts, case.after.open_attempts) == (1, 0)
    assert case.after.task == case.before.task
    assert case.same_refs()


def find_by_trailer(case: Case) -> None:
    assert case.after.stands == "merged"
    assert case.after.task["merge_commit"] == case.template.candidate
    assert set(case.after.landings) <= {"void"}
    assert case.after.base == case.before.base


def land_again(case: Case) -> None:
    assert (case.after.stands, case.after.landings) == ("merged", ["landed"])
    assert case.after.base == case.after.task["merge_commit"] == case.template.candidate
    assert (case.after.ref("heads/main"), case.after.ref("alluvium/base")) == (
        *[case.template.candidate] * 2,
    )
    assert f"alluvium/tasks/{TASK}" not in case.after.refs[0], "what has landed keeps no ref"


def merge_again(case: Case) -> None:
    assert case.after.stands == "worker_done"
    assert set(case.after.landings) <= {"void"}
    assert case.after.ref("alluvium/base") == case.after.base == case.before.base
    assert case.after.ref(f"alluvium/tasks/{TASK}") == case.template.work


def wait_on(case: Case) -> None:
    assert (case.after.stands, case.after.landings) == ("integrating", ["blocked"])
    assert "in the way: work" in case.after.task["reason"]
    assert case.after.base == case.before.base
    assert case.after.files["repo/work"] == IN_THE_WAY
    assert case.same_refs()


def void_landing(case: Case) -> None:
    assert (case.after.stands, case.after.landings) == ("cancelled", ["void"])
    assert case.after.ref("alluvium/base") == case.after.base == case.before.base
    assert case.same_refs()


CHECKS: dict[str, Callable[[Case], None]] = {
    "leave it": leave_it,
    "roll the claim back": roll_back,
    "drop the claim": roll_back,
    "finish the claim": finish_claim,
    "give back what took its place": give_back,
    "take the half-made task away": take_away,
    "queue again, uncounted": queue_again,
    "end the attempt": end_attempt,
    "found by trailer: done/merged": find_by_trailer,
    "land again": land_again,
    "merge again": merge_again,
    "void the landing, merge again": merge_again,
    "wait on, with the reason": wait_on,
    "void the landing": void_landing,
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Return what every state is a copy of."""
    return anyio.run(make_template, tmp_path_factory.mktemp("template"))


async def check_legal(template: Template, state: State, rule: Rule, root: Path, odd: bool) -> None:
    workspace = await build(template, state, root, as_folder=odd)
    assert await told(workspace) == [], "a state that a crash can leave is no damage"
    before = look(workspace)
    await start(workspace)
    after = look(workspace)
    assert not [name for name in after.files if name.startswith(("worktrees", ".alluvium"))]
    assert not lost(before, after)
    CHECKS[rule.says](Case(template, before, after))
    assert await told(workspace) == []
    await start(workspace)
    assert look(workspace) == after, "a second recovery has nothing to do"
    if after.stands in LANE or state["store"] == "cancelled+blocked":
        stays = {"integrating+blocked": "integrating", "cancelled+blocked": "cancelled"}
        await check_goes_on(workspace, after, stays.get(state["store"], "merged"))


async def check_goes_on(workspace: Workspace, recovered: Seen, expected: str) -> None:
    """Let the lane go on from what recovery left: what nothing is in the way of lands, once."""
    await integrate(workspace)
    after = look(workspace)
    assert after.stands == expected
    trailers = git(workspace.repo, "log", "--format=%(trailers:key=Task-Id,valueonly)", "main")
    assert trailers.split().count(TASK) == (1 if expected == "merged" else 0)
    assert trailers.split().count(EARLIER) == 1
    assert not lost(recovered, after)
    assert await told(workspace) == []


@pytest.mark.parametrize("rule", ACTIONS, ids=slug)
async def test_recovery_does_what_the_table_says_and_nothing_the_second_time(
    template: Template, tmp_path: Path, rule: Rule
) -> None:
    for number, state in enumerate(TO_BUILD[rule.number]):
        root = tmp_path / str(number)
        try:
            await check_legal(template, state, rule, root, odd=number % 2 == 1)
        except Exception as error:
            error.add_note(f"row {rule.number}, '{rule.says}': {json.dumps(state, indent=1)}")
            raise
        await anyio.to_thread.run_sync(shutil.rmtree, root)


async def test_a_landing_cut_off_before_it_was_held_is_held_when_it_has_to_wait(
    template: Template, tmp_path: Path
) -> None:
    """Else what lands next would not stand on it, and would be taken for it."""
    state = {
        "item": "in task",
        "folder": "filled",
        "store": "integrating+prepared",
        "workshop": "none",
        "integration.git": "work",
        "base": "before",
    }
    workspace = await build(template, state, tmp_path / "ws", as_folder=False)
    (workspace.repo / "work").write_text(IN_THE_WAY)
    await start(workspace)
    after = look(workspace)
    assert after.landings == ["blocked"]
    assert after.ref(f"alluvium/candidates/{TASK}") == template.candidate
    assert after.ref("alluvium/base") == template.candidate
    assert await told(workspace) == []


@pytest.mark.parametrize("rule", TOLD, ids=slug)
async def test_what_recovery_leaves_to_people_loses_nothing_and_is_told(
    template: Template, tmp_path: Path, rule: Rule
) -> None:
    states = ILLEGAL[rule.number]
    for number, state in enumerate(every_pair(states) if ALL else (states[0], states[-1])):
        root = tmp_path / str(number)
        try:
            workspace = await build(template, state, root, as_folder=number % 2 == 1)
            first = [other for other in TOLD if other.matches(state)]
            lines = await told(workspace)
            for other in first:
                assert any(other.says in line for line in lines), (other.says, lines)
            before = look(workspace)
            await start(workspace)
            assert not lost(before, look(workspace))
        except Exception as error:
            error.add_note(f"row {rule.number}, '{rule.says}': {json.dumps(state, indent=1)}")
            raise
        await anyio.to_thread.run_sync(shutil.rmtree, root)

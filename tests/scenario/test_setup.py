"""Worktrees made ready: copied files, commands and what they made, ports; and that none lands."""

import json
import sys
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from bed import Bed, witnesses
from test_agents_secrets import places_of

SECRET = "s3cr3t-from-dotenv-4720"
CHANGED = "s3cr3t-changed-by-agent-4721"


def events(bed: Bed, name: str) -> list[dict[str, Any]]:
    """Return what the daemon logged under a name."""
    lines = (bed.root / "logs" / "daemon.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == name]


def table(**keys: object) -> str:
    return tomli_w.dumps({"setup": keys})


def no_commit_holds(bed: Bed, path: str) -> bool:
    """Tell whether no commit that the base reaches has ever had a path."""
    return not bed.git("log", "--full-history", "--format=%H", "main", "--", path)


def test_a_copied_file_is_there_and_lands_in_no_commit_and_no_log(bed: Bed) -> None:
    bed.make(
        f"""
        cat .env
        test "$(cat config/local.toml)" = local
        test -z "$(git status --porcelain)"
        echo "KEY={CHANGED}" >> .env
        cat .env >&2
        printf '!.env\\n' > .gitignore
        echo work > work.txt
        git add .gitignore
        git commit -q -m "Some of it"
        """,
        table(copy=[".env", "config/local.toml", "missing.txt"]),
    )
    (bed.repo / ".env").write_text(f"# mine\nexport KEY='{SECRET}'\nMODE=production\n")
    (bed.repo / "config").mkdir()
    (bed.repo / "config" / "local.toml").write_text("local")
    bed.start()
    bed.drop("task")
    bed.wait_for("task", "done")
    assert bed.base_file("work.txt") == "work", "what lies beside it is committed for the agent"
    assert no_commit_holds(bed, ".env")
    assert no_commit_holds(bed, "config/local.toml")
    assert events(bed, "setup_not_copied")[0]["missing"] == ["missing.txt"]
    log = next(bed.folder("task").glob(".system/attempts/1/stdout.log")).read_text()
    assert "KEY='[masked]'" in log
    assert "MODE=production" in log
    assert places_of(bed.root, SECRET) == set()
    assert f"KEY='{SECRET}'" in (bed.repo / ".env").read_text(), "the owner's is as it was"
    bed.stop()


@pytest.mark.parametrize("then", ["", "git rm -q --cached .env; git commit -q -m 'Take it out'"])
def test_work_in_which_it_was_ever_committed_goes_to_a_person(bed: Bed, then: str) -> None:
    bed.make(
        f"""
        echo work > work.txt
        git add work.txt
        git add -f .env
        git commit -q -m "All of it"
        {then}
        """,
        table(copy=[".env"]) + '[integration]\nmerge_style = "merge"\n',
    )
    (bed.repo / ".env").write_text(f"KEY={SECRET}\n")
    before = bed.git("rev-parse", "main")
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "needs_human", "done", "failed")
    assert task["state"] == "needs_human"
    assert "the agent committed .env, which must never land" in task["reason"]
    bed.set_agent("echo again > work.txt\n")
    bed.cli("answer", task["id"], "leave .env alone")
    task = bed.wait_for("task", "done", "failed")
    assert task["state"] == "done", "the next attempt goes on without that work"
    assert bed.git("rev-parse", "main") != before
    assert no_commit_holds(bed, ".env")
    bed.stop()


def bundled(bed: Bed, folder: Path) -> str:
    """Return all that a backup's bundle of the daemon's repository brings back, as text."""
    bed.cli("backup", str(folder / "saved"), "--force")
    with tarfile.open(folder / "saved") as archive:
        archive.extract("integration.bundle", folder, filter="data")
    git = partial(bed.git, cwd=folder)
    git("init", "-q", "--bare", "restored")
    git("-C", "restored", "fetch", "-q", str(folder / "integration.bundle"), "+refs/*:refs/*")
    return git("-C", "restored", "log", "--all", "-p", "--full-history")


@pytest.mark.parametrize(
    "hidden",
    [
        "git add -f .env; git commit -q -m one; git rm -q --cached .env; git commit -q -m two",
        "git checkout -q -b side HEAD~1; git add -f .env; git commit -q -m side; git checkout -q -",
        "git checkout -q -b side HEAD~1; git add -f .env; git commit -q -m side",
        "git stash -q --all",
    ],
    ids=["on the way", "on another branch", "beside the branch", "in a stash"],
)
def test_it_is_under_no_ref_and_in_no_bundle_wherever_it_was_committed(
    bed: Bed, tmp_path: Path, hidden: str
) -> None:
    bed.make(
        f"""
        echo work > work.txt
        {"" if "stash" in hidden else "git add work.txt; git commit -q -m work"}
        {hidden}
        """,
        table(copy=[".env"]),
    )
    (bed.repo / ".env").write_text(f"KEY={SECRET}\n")
    before = bed.git("rev-parse", "main")
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "needs_human", "done", "failed")
    assert task["state"] == "needs_human", "nothing is landed beside it in silence"
    assert "the agent committed .env, which must never land" in task["reason"]
    assert next(bed.folder("task").glob(".system/attempts/1/workshop.git")).is_dir()
    store = str(bed.root / ".alluvium" / "integration.git")
    strays = bed.git("-C", store, "for-each-ref", "refs/alluvium/strays", "refs/alluvium/tasks")
    assert strays == ""
    assert bed.git("rev-parse", "main") == before
    assert SECRET not in bundled(bed, tmp_path)
    bed.stop()


def hold(bed: Bed, name: str) -> None:
    """Drop a task and wait until its agent holds still."""
    bed.drop(name)
    bed.wait(lambda: any(bed.root.glob(f"tasks/*{name}*/.agent/outputs/here")), "agent begun")


@pytest.mark.parametrize("later", [table(copy=[".env.local"]), ""], ids=["other", "no table"])
def test_what_a_worktree_was_given_does_not_land_whatever_the_config_says_later(
    bed: Bed, later: str
) -> None:
    bed.make(
        """
        touch "$ALLUVIUM_AGENT_DIR/outputs/here"
        while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
        echo work > work.txt
        """,
        table(copy=[".env"]),
    )
    (bed.repo / ".env").write_text(f"KEY={SECRET}\n")
    bed.start()
    hold(bed, "task")
    bed.configure(later)
    bed.cli("reload")
    bed.release("task")
    task = bed.wait_for("task", "done", "failed", "needs_human")
    assert task["state"] == "done"
    assert bed.base_file("work.txt") == "work"
    assert no_commit_holds(bed, ".env")
    bed.stop()


def test_work_is_committed_for_the_agent_where_gitignore_names_the_same_paths(bed: Bed) -> None:
    """Git's `add` refuses a literal path that is ignored, and with it all that was left."""
    bed.make(
        "test -f .env && test -f node_modules/x && echo work > work.txt && mkdir d && echo > d/f\n",
        table(
            copy=[".env"], run=["mkdir node_modules; touch node_modules/x"], keep=["node_modules"]
        ),
    )
    bed.commit({".gitignore": ".env\nnode_modules/\n"})
    (bed.repo / ".env").write_text(f"KEY={SECRET}\n")
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "done", "failed", "needs_human")
    assert task["state"] == "done", task["reason"]
    assert bed.git("ls-tree", "-r", "--name-only", "main", "work.txt", "d") == "d/f\nwork.txt"
    assert no_commit_holds(bed, ".env")
    bed.stop()


def test_what_links_in_a_copied_folder_lead_to_is_copied_and_stays_as_it_is(bed: Bed) -> None:
    bed.make("cat conf/link > work.txt; echo changed > conf/link\n", table(copy=["conf"]))
    real = bed.open / "real.txt"
    real.write_text("the owner's")
    (bed.repo / "conf").mkdir()
    (bed.repo / "conf" / "link").symlink_to(real)
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "done", "failed", "needs_human")
    assert task["state"] == "done", task["reason"]
    assert bed.base_file("work.txt") == "the owner's"
    assert real.read_text() == "the owner's"
    bed.stop()


def test_what_the_repository_tracks_is_not_copied_over(bed: Bed) -> None:
    bed.make("exit 0\n", table(copy=[".env"]))
    bed.commit({".env": "A=tracked\n"})
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "failed")
    assert "copies or keeps .env, which the repository tracks" in task["reason"]
    doctor = bed.run("-C", str(bed.root), "doctor")
    assert doctor.returncode == 1
    assert "keeps .env, which the repository tracks" in " ".join(doctor.stdout.split())
    bed.stop()


PACKAGE = {
    "package.json": '{"name": "web", "version": "1.0.0", "dependencies": {"local": "file:local"}}',
    "package-lock.json": json.dumps(
        {
            "name": "web",
            "version": "1.0.0",
            "lockfileVersion": 3,
            "requires": True,
            "packages": {
                "": {"name": "web", "version": "1.0.0", "dependencies": {"local": "file:local"}},
                "local": {"version": "1.0.0"},
                "node_modules/local": {"resolved": "local", "link": True},
            },
        }
    ),
    "local/package.json": '{"name": "local", "version": "1.0.0", "main": "index.js"}',
    "local/index.js": "module.exports = () => 'hello from local'\n",
    "server.js": """
const port = Number(process.env.ALLUVIUM_PORT_BASE);
require("http").createServer((q, r) => r.end(require("local")())).listen(port, "127.0.0.1", () =>
    require("fs").writeFileSync(process.env.ALLUVIUM_AGENT_DIR + "/outputs/port", `${port}`));
""",
}


def test_a_web_project_is_set_up_once_and_two_tasks_serve_at_once(bed: Bed) -> None:
    bed.make(
        """
        node server.js &
        while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
        port=$(cat "$ALLUVIUM_AGENT_DIR/outputs/port")
        node -e "require('http').get('http://127.0.0.1:$port', r => r.pipe(process.stdout))" \\
            > "answer-$ALLUVIUM_PORT_BASE.txt"
        """,
        table(
            run=["npm ci --no-audit --no-fund --offline"],
            keep=["node_modules"],
            env=["npm_config_update_notifier=false"],
        )
        + '[integration]\nrun_tests = ["node -e \\"require(\'local\')()\\""]\n',
    )
    bed.commit(PACKAGE)
    bed.start()
    ports = []
    for name in ("one", "two"):
        bed.drop(name)
    for name in ("one", "two"):
        bed.wait_for(name, "running")
        file = bed.folder(name) / ".agent" / "outputs" / "port"
        bed.wait_for_file(file)
        ports.append(int(file.read_text()))
    assert abs(ports[0] - ports[1]) >= 10, "each has ten of its own"
    for name in ("one", "two"):
        bed.release(name)
    for name in ("one", "two"):
        assert bed.wait_for(name, "done", "failed", "needs_human")["state"] == "done"
    for port in ports:
        assert bed.base_file(f"answer-{port}.txt") == "hello from local"
    assert no_commit_holds(bed, "node_modules")
    ran, reused = events(bed, "setup_ran"), events(bed, "setup_reused")
    assert len(ran) == 1, "the other one waited for it, and the tests had it too"
    assert len(reused) >= 2
    assert min(each["seconds"] for each in reused) < ran[0]["seconds"]
    bed.stop()


PYTHON = {
    "requirements.txt": "./tiny\n",
    "tiny/pyproject.toml": """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "tiny"
version = "1.0"
""",
    # A backend of its own: nothing has to be had from the network to build it.
    "tiny/backend.py": """
import zipfile

META = "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n"
FILES = {
    "tiny.py": "def main():\\n    print('tiny says hello')\\n",
    "tiny-1.0.dist-info/METADATA": META,
    "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "tiny-1.0.dist-info/entry_points.txt": "[console_scripts]\\ntiny = tiny:main\\n",
}

def build_wheel(folder, config_settings=None, metadata_directory=None):
    files = FILES | {"tiny-1.0.dist-info/RECORD": "".join(f"{n},,\\n" for n in FILES)}
    with zipfile.ZipFile(f"{folder}/tiny-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return "tiny-1.0-py3-none-any.whl"
""",
}


def test_a_python_project_is_set_up_once_and_its_programs_work_elsewhere(bed: Bed) -> None:
    bed.make(
        """
        grep -q "$PWD/.venv/bin/python" .venv/bin/tiny
        .venv/bin/tiny > said.txt
        . .venv/bin/activate
        test "$VIRTUAL_ENV" = "$PWD/.venv"
        echo "$ALLUVIUM_TASK_ID" >> said.txt
        rm -rf .venv
        """,
        table(
            run=[
                f"{sys.executable} -m venv .venv",
                {
                    "command": ".venv/bin/pip install -q --no-index --no-build-isolation "
                    "--disable-pip-version-check -r requirements.txt",
                    "name": "packages",
                },
            ],
            keep=[".venv"],
        )
        + '[integration]\nrun_tests = [".venv/bin/tiny"]\n[safety]\nmax_workers = 1\n',
    )
    bed.commit(PYTHON)
    bed.start()
    for name in ("first", "second"):
        bed.drop(name)
        assert bed.wait_for(name, "done", "failed", "needs_human")["state"] == "done"
    assert "tiny says hello" in bed.base_file("said.txt")
    assert len(events(bed, "setup_ran")) == 1
    assert len(events(bed, "setup_reused")) == 3
    bed.stop()


def test_a_set_up_that_fails_keeps_the_attempt_from_starting(bed: Bed) -> None:
    bed.make(
        "exit 0\n",
        table(
            run=[{"name": "packages", "command": "echo first; echo no such package >&2; exit 7"}]
        ),
    )
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "failed")
    assert "'packages' exited with 7: no such package" in task["reason"]
    log = bed.folder("task") / ".system" / "attempts" / "1" / "setup.log"
    assert str(log.relative_to(bed.root)) in task["reason"]
    assert "first\nno such package" in log.read_text()
    bed.stop()


def test_a_set_up_that_takes_too_long_is_ended_with_all_that_it_started(bed: Bed) -> None:
    bed.make("exit 0\n", table(run=["sleep 600 & sleep 600"], timeout_seconds=0.3))
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "failed")
    assert "ran longer than 0.3 s" in task["reason"]
    bed.stop()


def test_a_cancel_reaches_a_set_up(bed: Bed) -> None:
    bed.make("exit 0\n", table(run=[f"echo begun > {bed.open}/begun; sleep 600"]))
    bed.start()
    bed.drop("task")
    bed.wait_for_file(bed.open / "begun")
    bed.cli("cancel", bed.folder("task").name)
    assert bed.wait_for("task", "cancelled")["reason"]
    bed.stop()


def test_what_tests_need_and_do_not_get_makes_them_fail_with_the_reason(bed: Bed) -> None:
    bed.make(
        "echo broken > broken; echo x > x.txt\n",
        table(run=["test ! -e broken"])
        + '[integration]\nrun_tests = ["true"]\nmax_revision_rounds = 0\n',
    )
    bed.start()
    bed.drop("task")
    task = bed.wait_for("task", "needs_human", "done", "failed")
    assert task["state"] == "needs_human"
    assert "[setup] 'test ! -e broken' exited with 1" in json.dumps(task)
    bed.stop()


def test_what_an_agent_committed_decides_nothing_for_others(bed: Bed, tmp_path: Path) -> None:
    """What a set-up makes of a tree that has not landed is not kept for others."""
    bed.make(
        """
        test "$(cat made/by)" = base
        echo agent > by.txt
        echo one > requirements.txt
        """,
        table(run=["mkdir made; cp by.txt made/by"], keep=["made"])
        + '[integration]\nrun_tests = ["test \\"$(cat made/by)\\" = agent"]\n',
    )
    bed.commit({"by.txt": "base\n", "requirements.txt": "zero\n"})
    bed.start()
    bed.drop("task")
    assert bed.wait_for("task", "done", "failed", "needs_human")["state"] == "done"
    kept = list((bed.root / ".alluvium" / "setups").iterdir())
    assert [(path / "files" / "made" / "by").read_text() for path in kept] == ["base\n"]
    bed.stop()


def test_what_was_copied_and_made_does_not_reach_another_task_in_a_warm_tree(bed: Bed) -> None:
    quick = "[safety]\nmax_workers = 1\nwarm_worktrees = 1\n"
    bed.make("echo x > a.txt\n", table(copy=[".env"], run=["mkdir made"], keep=["made"]) + quick)
    (bed.repo / ".env").write_text("A=1\n")
    bed.start()
    bed.drop("first")
    assert bed.wait_for("first", "done", "failed")["state"] == "done"
    bed.configure(quick)
    bed.cli("reload")
    bed.set_agent("ls -A; stat -c %i .\n")
    bed.drop("second")
    bed.wait_for("second", "done")
    log = (bed.folder("second") / ".system" / "attempts" / "1" / "stdout.log").read_text()
    assert log.split()[:-1] == [".git", "AGENTS.md", "a.txt"]
    bed.stop()


@pytest.mark.unboxed
def test_a_daemon_that_is_killed_in_a_set_up_leaves_nothing_of_it(bed: Bed) -> None:
    bed.make(
        "echo x > a.txt\n",
        table(
            run=[
                'test -e "$ALLUVIUM_AGENT_DIR/again" || { touch "$ALLUVIUM_AGENT_DIR/again"; '
                'echo $$ > "$ALLUVIUM_AGENT_DIR/outputs/setup"; sleep 600; }'
            ]
        ),
    )
    bed.start()
    bed.drop("task")
    (command,) = witnesses(bed, "task", "setup")
    bed.kill()
    assert command.alive()
    bed.start()
    task = bed.wait_for("task", "done", "failed")
    assert task["state"] == "done", "that attempt does not count"
    assert not command.alive()
    bed.stop()

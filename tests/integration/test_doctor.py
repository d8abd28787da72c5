import os
import shutil
import subprocess
from pathlib import Path

import pytest

from alluvium_like.surface.doctor import run_doctor
from alluvium_like.surface.initialise import initialise
from alluvium_like.surface.machine import (
    LOW_DISK_BYTES,
    NO_DISK_BYTES,
    Check,
    Status,
    judge_disk,
    judge_inotify,
)
from alluvium_like.workspace import Workspace


def made(tmp_path: Path) -> Workspace:
    initialise(tmp_path / "w", repo=None, agent=None)
    return Workspace.at(tmp_path / "w")


def failing(workspace: Workspace) -> dict[str, Check]:
    checks = run_doctor(workspace)
    assert all(check.fix for check in checks if check.status is not Status.OK)
    return {check.name: check for check in checks if check.status is not Status.OK}


def configure(workspace: Workspace, text: str) -> None:
    workspace.config_file.write_text(text)


def test_a_new_workspace_is_well_and_nothing_is_left_behind(tmp_path: Path) -> None:
    workspace = made(tmp_path)
    before = sorted(workspace.root.rglob("*"))
    checks = run_doctor(workspace)
    environment = {"disk", "inotify", "file system"}  # may be poor where the tests run
    assert [
        check for check in checks if check.status is not Status.OK and check.name not in environment
    ] == []
    assert {
        "python",
        "git",
        "config",
        "workspace",
        "rename",
        "fsync",
        "agent default",
        "repository",
    } <= {check.name for check in checks}
    assert sorted(workspace.root.rglob("*")) == before


def test_every_mistake_in_the_configuration_is_told(tmp_path: Path) -> None:
    workspace = made(tmp_path)
    configure(workspace, "[agnet]\n[agent]\nretries = -1\n")
    message = failing(workspace)["config"].message
    assert "did you mean 'agent'" in message
    assert "[agent].retries" in message


def test_an_agent_that_is_not_installed_is_told(tmp_path: Path) -> None:
    workspace = made(tmp_path)
    configure(workspace, '[agent]\ncommand = ["no-such-agent-4711"]\n')
    assert "no-such-agent-4711 is not a program" in failing(workspace)["agent default"].message
    (tmp_path / "script").write_text("#!/bin/sh\n")
    configure(workspace, f'[agent]\ncommand = ["{tmp_path}/script"]\n')
    assert "agent default" in failing(workspace)
    (tmp_path / "script").chmod(0o755)
    assert "agent default" not in failing(workspace)
    configure(workspace, '[agent]\ncommand = ["{worktree}/agent.sh"]\n')
    assert "agent default" not in failing(workspace)


def test_variables_that_are_not_set_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = made(tmp_path)
    monkeypatch.setenv("KEY_THAT_IS_SET", "hush-4711")
    configure(workspace, '[agent]\nenv = ["KEY_THAT_IS_SET", "KEY_THAT_IS_NOT"]\n')
    check = failing(workspace)["agent default variables"]
    assert (check.status, check.message) == (Status.WARN, "not set here: KEY_THAT_IS_NOT")
    assert "hush-4711" not in str(run_doctor(workspace))


def test_each_agent_is_looked_at_and_whether_it_can_log_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = made(tmp_path)
    program = tmp_path / "codex"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CODEX_API_KEY", "hush-4711")
    text = f"""
        [agent]
        profile = "codex"
        [agents.codex]
        preset = "codex"
        env = ["PATH={tmp_path}"]
        [agents.keyed]
        preset = "codex"
        command = ["{program}"]
        env = ["CODEX_API_KEY"]
        [agents.far]
        preset = "mini-swe-agent"
        command = ["no-such-agent-4711"]
    """
    configure(workspace, text)
    found = failing(workspace)
    assert (found["agent codex login"].status, found["agent codex login"].message) == (
        Status.WARN,
        "cannot log in",
    )
    assert "CODEX_API_KEY" in found["agent codex login"].fix
    assert found["agent far"].status is Status.FAIL
    assert "agent keyed login" not in found
    assert not {"agent codex", "agent keyed", "agent default"} & found.keys()
    assert "hush-4711" not in str(run_doctor(workspace))


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ("", []),
        ("[agents.a]\npreset = 'codex'\nmax_tokens = 5", []),
        ("[agents.a]\nmax_tokens = 5", []),  # the one that is built in calls no model
        ("[agents.a]\ncommand = ['true']", []),
        ("[agents.a]\ncommand = ['true']\nmax_cost = 0.5", ["agent a budget"]),
        (
            "[budget]\nmax_tokens_per_day = 5\n[agents.a]\ncommand = ['true']",
            ["agent default budget", "agent a budget"],
        ),
    ],
)
def test_a_budget_that_nothing_counts_towards_is_told(
    tmp_path: Path, more: str, warned: list[str]
) -> None:
    workspace = made(tmp_path)
    agent = '[agent]\ncommand = ["true"]\n' if "budget" in more else ""
    configure(workspace, f"{agent}{more}\n")
    found = failing(workspace)
    assert [name for name in found if "budget" in name] == warned
    for name in warned:
        assert "tells nothing of what it uses" in found[name].message
        assert found[name].status is Status.WARN


def test_a_repository_that_cannot_serve_is_told(tmp_path: Path) -> None:
    workspace = made(tmp_path)
    configure(workspace, '[integration]\nbase_branch = "trunk"\n')
    assert "no branch 'trunk'" in failing(workspace)["repository"].message
    shutil.rmtree(workspace.repo)
    assert "is not there" in failing(workspace)["repository"].message


def test_an_unfinished_merge_and_a_lock_are_told(tmp_path: Path) -> None:
    workspace = made(tmp_path)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    script = "git checkout -q -b side && git {i} commit -q --allow-empty -m side && "
    script += "git checkout -q main && git {i} commit -q --allow-empty -m main && "
    script += "git {i} merge -q --no-ff --no-commit side"
    subprocess.run(script.format(i=" ".join(identity)), shell=True, cwd=workspace.repo, check=True)
    (workspace.repo / ".git" / "index.lock").touch()
    found = failing(workspace)
    assert found["unfinished work"].message == "unfinished: merge; landing may have to wait"
    assert "index.lock" in found["git locks"].message
    assert found["git locks"].status is Status.WARN
    assert (workspace.repo / ".git" / "index.lock").exists()


def test_missing_folders_are_told_and_nothing_raises(tmp_path: Path) -> None:
    workspace = made(tmp_path)
    workspace.inbox.rmdir()
    found = failing(workspace)
    assert found["workspace"].message == "not there: inbox"
    assert "init" in found["workspace"].fix
    assert found["rename"].status is Status.FAIL


def test_no_workspace_at_all_is_told_and_nothing_raises(tmp_path: Path) -> None:
    found = failing(Workspace.at(tmp_path / "nowhere"))
    assert {"workspace", "rename", "fsync", "disk", "repository"} <= set(found)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_tasks_on_another_file_system_are_told(tmp_path: Path) -> None:
    workspace = made(tmp_path)
    elsewhere = Path("/dev/shm") / f"doctor-test-{os.getpid()}"
    if tmp_path.stat().st_dev == elsewhere.parent.stat().st_dev:
        pytest.skip("there is only one file system")
    elsewhere.mkdir()
    try:
        workspace.tasks.rmdir()
        workspace.tasks.symlink_to(elsewhere)
        assert "inbox to tasks" in failing(workspace)["rename"].message
        assert list(workspace.inbox.iterdir()) == []
        workspace.tasks.unlink()
        workspace.tasks.mkdir()
        workspace.quarantine.rmdir()
        workspace.quarantine.symlink_to(elsewhere)
        assert "several file systems" in failing(workspace)["rename"].message
    finally:
        elsewhere.rmdir()


def test_a_machine_without_git_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = made(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = failing(workspace)
    assert "git is not on PATH" in found["git"].message
    assert "git is not on PATH" in found["repository"].message


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    workspace = made(tmp_path)
    monkeypatch.setattr("alluvium_like.surface.machine.type_of", lambda folder: kind)
    check = failing(workspace)["file system"]
    assert (check.status, check.message) == (Status.WARN, f"{kind} is a network file system")


def test_room_on_the_disk_is_judged() -> None:
    assert judge_disk(LOW_DISK_BYTES).status is Status.OK
    assert judge_disk(LOW_DISK_BYTES - 1).status is Status.WARN
    assert judge_disk(NO_DISK_BYTES - 1).status is Status.FAIL


def test_the_limits_of_watching_are_judged() -> None:
    assert judge_inotify(8192, 128).status is Status.OK
    assert judge_inotify(8191, 128).status is Status.WARN
    assert judge_inotify(8192, 64).status is Status.WARN

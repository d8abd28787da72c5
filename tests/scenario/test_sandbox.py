"""The box as people meet it: what is said where there is none, what it shows, the shell in it."""

import json
import signal

import pytest
from bed import COMMIT, Bed

from alluvium_like.sandbox.bubblewrap import find_problem
from alluvium_like.sandbox.cgroup import enforced

boxed = pytest.mark.skipif(
    bool(find_problem()), reason="needs bubblewrap: install the package bubblewrap"
)
BROKEN = "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n"


def break_bubblewrap(bed: Bed) -> None:
    """Let the bubblewrap that is found first be one that the system does not let work."""
    program = bed.root.parent / "broken" / "bwrap"
    program.parent.mkdir()
    program.write_text(BROKEN)
    program.chmod(0o755)
    bed.environment["PATH"] = f"{program.parent}:{bed.environment['PATH']}"


def checks(bed: Bed, name: str) -> list[dict[str, str]]:
    return [check for check in bed.json("doctor") if check["name"] == name]


def test_without_bubblewrap_agents_run_and_status_doctor_and_log_say_so(bed: Bed) -> None:
    bed.make(COMMIT)
    break_bubblewrap(bed)
    bed.start()
    bed.drop("t")
    assert bed.wait_for("t", "done")["outcome"] == "merged"
    (told,) = bed.json("status")["conditions"]
    assert told["name"] == "unboxed"
    assert "WITHOUT A BOX" in told["reason"]
    assert "setting up uid map: Permission denied" in told["reason"]
    assert "WITHOUT A BOX" in bed.cli("status")
    assert '"unboxed"' in (bed.root / "logs" / "daemon.jsonl").read_text()
    (check,) = checks(bed, "sandbox")
    assert (check["status"], "without a box" in check["message"]) == ("warn", True)


def test_a_box_that_is_asked_for_and_cannot_be_made_keeps_the_daemon_from_starting(
    bed: Bed,
) -> None:
    bed.make(COMMIT, config="[sandbox]\nmode = 'bubblewrap'")
    break_bubblewrap(bed)
    said = bed.cli("start", code=1)
    assert 'asks for "bubblewrap"' in said
    assert "setting up uid map: Permission denied" in said
    (check,) = checks_of_failed_doctor(bed)
    assert check["status"] == "fail"


def checks_of_failed_doctor(bed: Bed) -> list[dict[str, str]]:
    done = bed.run("-C", str(bed.root), "doctor", "--json")
    assert done.returncode == 1
    return [check for check in json.loads(done.stdout) if check["name"] == "sandbox"]


def test_a_reload_that_asks_for_what_cannot_be_had_changes_nothing(bed: Bed) -> None:
    bed.make(COMMIT)
    break_bubblewrap(bed)
    bed.start()
    bed.configure("[sandbox]\nmode = 'bubblewrap'")
    assert 'asks for "bubblewrap"' in bed.cli("reload", code=1)
    bed.drop("t")
    assert bed.wait_for("t", "done")["outcome"] == "merged"
    bed.configure("[sandbox]\nmode = 'none'")
    bed.cli("reload")
    assert bed.json("status")["conditions"] == []


@boxed
def test_an_agent_may_be_without_a_box_of_its_own_will(bed: Bed) -> None:
    script = 'cd "$ALLUVIUM_TASK_DIR"; ls -a > "$ALLUVIUM_AGENT_DIR/outputs/seen"'
    bed.make(script)
    bed.start()
    bed.drop("boxed")
    bed.wait_for("boxed", "done")
    bed.configure("[agent]\nsandbox = 'none'")
    bed.cli("reload")
    bed.drop("open")
    bed.wait_for("open", "done")
    seen = {
        name: set((bed.folder(name) / ".agent" / "outputs" / "seen").read_text().split())
        for name in ("boxed", "open")
    }
    assert seen["boxed"] == {".", "..", ".agent", "input"}
    assert ".system" in seen["open"]
    assert bed.json("status")["conditions"] == []


@boxed
def test_what_was_not_reached_is_an_event_and_stands_in_the_log_of_tests(bed: Bed) -> None:
    bed.make(
        "curl -s -m 5 http://forbidden.example/ || true\n" + COMMIT,
        config="""
        [sandbox]
        tests_network = "allow"
        [integration]
        run_tests = ["curl -s -m 5 http://also-forbidden.example/ || true"]
        """,
    )
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done")
    assert task["outcome"] == "merged"
    told = [event["reason"] for event in task["events"]]
    assert any("not let reach forbidden.example:80" in reason for reason in told), told
    (log,) = (bed.root / "logs" / "tests").iterdir()
    assert "not let reach also-forbidden.example:80" in log.read_text()
    assert bed.run("-C", str(bed.root), "verify").returncode == 0


@boxed
def test_named_files_of_the_home_folder_are_shown_in_the_home_of_the_box(bed: Bed) -> None:
    (bed.home / ".npmrc").write_text("registry")
    (bed.home / "cache").mkdir()
    bed.make(
        """
        cat "$HOME/.npmrc" > "$HOME/cache/copy"
        ! echo planted >> "$HOME/.npmrc"
        [ "$HOME" != "$(dirname "$HOME")/../.." ]
        echo kept > "$HOME/kept"
        """,
        config="[sandbox]\nreadable = ['~/.npmrc', '/no/such']\nwritable = ['~/cache']",
    )
    bed.start()
    bed.drop("t")
    assert bed.wait_for("t", "done", "failed")["outcome"] == "noop"
    assert (bed.home / "cache" / "copy").read_text() == "registry"
    assert (bed.home / ".npmrc").read_text() == "registry"
    assert not (bed.home / "kept").exists()
    assert (bed.folder("t") / ".agent/sessions/home/kept").read_text() == "kept\n"
    (check,) = checks(bed, "sandbox paths")
    assert "/no/such" in check["message"]


@boxed
def test_what_one_agent_writes_is_not_followed_for_another_or_for_tests(bed: Bed) -> None:
    """A link that it leaves where a test command looks leads nowhere but where it may write."""
    cache, secret = bed.root.parent / "cache", bed.root.parent / "secret"
    cache.mkdir()
    secret.write_text("the secret")
    agent = f"ln -s {secret} {cache}/conf; echo x > f; git add -A; git commit -qm x"
    bed.make(
        agent,
        config=f"""
        [agents.a]
        command = ["sh", "-c", "{agent}"]
        writable = ["{cache}"]
        [integration]
        run_tests = ["cat {cache}/conf 2>&1; true"]
        """,
    )
    bed.start()
    bed.cli("submit", "--agent", "a", "--name", "t", "-", stdin="please")
    bed.wait_for("t", "done")
    logs = [path.read_text() for path in (bed.root / "logs" / "tests").iterdir()]
    assert logs
    assert not any("the secret" in text for text in logs)


def test_paths_that_agents_could_turn_elsewhere_are_refused(bed: Bed) -> None:
    bed.make(COMMIT)
    folder = bed.root.parent / "data"
    (folder / "bin").mkdir(parents=True)
    bed.configure(f"[agents.a]\nwritable = ['{folder}']\n[agents.b]\nwritable = ['{folder}/b']\n")
    said = bed.cli("start", code=1)
    assert f"'{folder}/b' lies in '{folder}', which agents write" in said
    bed.configure(f"[sandbox]\nwritable = ['{folder}']\n")
    bed.environment["PATH"] = f"{folder}/bin:{bed.environment['PATH']}"
    assert f"PATH finds programs in '{folder}/bin'" in bed.cli("start", code=1)


@boxed
def test_a_writable_folder_of_the_home_folder_is_at_its_own_place_too(bed: Bed) -> None:
    tools = bed.home / "tools"
    tools.mkdir(parents=True)
    program = tools / "agent"
    program.write_text(f"#!/bin/sh\ntouch {tools}/one ~/tools/two\n")
    program.chmod(0o755)
    bed.make(COMMIT, config=f"[agents.a]\ncommand=['{program}']\nwritable = ['~/tools']\n")
    bed.start()
    bed.cli("submit", "--agent", "a", "--name", "t", "-", stdin="please")
    assert bed.wait_for("t", "done", "failed")["outcome"] == "noop"
    assert {each.name for each in tools.iterdir()} == {"agent", "one", "two"}


@boxed
def test_explain_says_what_an_agent_can_do_and_the_shell_can_do_no_more(bed: Bed) -> None:
    bed.make(COMMIT, config="[sandbox]\nhosts = ['api.example.org']\nmax_processes = 77")
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done")
    told = bed.json("sandbox", "explain", "t-")
    folder = bed.folder("t")
    assert told["boxed"] is True
    assert str(folder / ".agent") in told["writes"]
    assert str(folder / "input") in told["reads"]
    assert str(bed.root / ".alluvium" / "integration.git" / "objects") in told["reads"]
    assert not [place for place in told["writes"] if place.startswith(str(bed.repo))]
    assert told["hosts"] == ["api.example.org"]
    assert any(limit.startswith("77 processes") for limit in told["limits"])
    words = bed.cli("sandbox", "explain", "t-")
    assert "anything else is not there" in words

    script = f"cat {task['id']}.txt; git log --format=%s -1; ls {bed.root}; touch {bed.root}/x"
    done = bed.run("-C", str(bed.root), "sandbox", "shell", "t-", "--", "sh", "-c", script)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["work", "Add the work"]
    assert set(lines[2:]) == {"tasks", "worktrees"}
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    bed.cli("stop")
    assert bed.cli("sandbox", "shell", "t-", stdin="echo from the shell\n") == "from the shell\n"
    assert (
        bed.run("-C", str(bed.root), "sandbox", "shell", "t-", "sh", "-c", "exit 7").returncode == 7
    )


@boxed
@pytest.mark.skipif(
    enforced(None)["processes"].startswith("nothing"), reason="needs control groups for root"
)
def test_the_shell_is_kept_to_the_limits_of_the_box(bed: Bed) -> None:
    bed.make(COMMIT, config="[sandbox]\nmax_processes = 30")
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "done")
    many = "n=0; while [ $n -lt 60 ]; do sleep 5 & n=$((n + 1)); done"
    done = bed.run("-C", str(bed.root), "sandbox", "shell", "t-", "sh", "-c", many)
    assert done.returncode != 0
    assert "fork" in done.stderr.lower()


@boxed
def test_a_shell_that_is_told_to_end_leaves_nothing(bed: Bed) -> None:
    bed.make(COMMIT)
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "done")
    bed.cli("stop")
    scratch = bed.root.parent / "scratch"
    scratch.mkdir()
    bed.environment["TMPDIR"] = str(scratch)
    shell = bed.spawn("sandbox", "shell", "t-", "sh", "-c", "echo up; sleep 600")
    with shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "up\n"
        assert list(scratch.iterdir())
        shell.terminate()
        shell.communicate(timeout=bed.patience)
    assert shell.returncode == 128 + signal.SIGTERM
    assert list(scratch.iterdir()) == []


def test_explain_says_plainly_that_there_is_no_box(bed: Bed) -> None:
    bed.make(COMMIT, config="[sandbox]\nmode = 'none'")
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done")
    told = bed.json("sandbox", "explain", task["id"])
    assert told["boxed"] is False
    assert told["why"] == 'sandbox is "none"'
    assert "NO BOX" in bed.cli("sandbox", "explain", task["id"])
    assert "no task" in bed.cli("sandbox", "explain", "nobody", code=1)


@boxed
def test_programs_that_commands_of_tests_and_set_ups_name_are_shown(bed: Bed) -> None:
    tool = bed.root.parent / "tools" / "check"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexit 0\n")
    tool.chmod(0o755)
    bed.make(
        COMMIT,
        config=f"""
        [setup]
        run = ["{tool} > /dev/stdout 2>/dev/null"]
        [integration]
        run_tests = ["{tool} && cat /dev/null"]
        """,
    )
    bed.start()
    bed.drop("t")
    task = bed.wait_for("t", "done", "failed", "needs_human")
    assert task["outcome"] == "merged", task["reason"]

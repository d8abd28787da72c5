"""The commands about agents, without any daemon: which there are, and whether one works."""

import os
import signal
import tomllib
from pathlib import Path

import pytest
from agent_words import AGENT
from bed import Bed, Witness

PROGRAM = """
[ "$1" = --version ] && { echo "codex-cli 0.4711.0 (build 7)"; exit 0; }
printf '{"type":"thread.started","thread_id":"t"}\\n{"type":"turn.started"}\\n'
printf '{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"hello"}}\\n'
case "$(cat)" in *hello.txt*) ;; *) exit 7;; esac
"""
THROUGH = 'printf \'{"type":"turn.completed","usage":{"input_tokens":1200,"output_tokens":3}}\\n\''


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{PROGRAM}\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def agents(bed: Bed, tmp_path: Path) -> Bed:
    """A workspace with agents of all kinds."""
    works = program(
        tmp_path / "bin",
        "codex",
        f"printf 'hello\\n' > hello.txt; git add -A; git commit -qm Hi\n{THROUGH}",
    )
    lazy = program(tmp_path, "lazy", THROUGH)
    wrong = program(
        tmp_path,
        "wrong",
        """
        echo "the key is $SOME_KEY" >&2
        printf '{"type":"turn.failed","error":{"message":"401 Unauthorized"}}\\n'
        exit 1
        """,
    )
    bed.environment |= {
        "SOME_KEY": "hush-4711",
        "PATH": f"{works.parent}{os.pathsep}{os.environ['PATH']}",
    }
    return bed.make(
        AGENT,
        f"""
        [agent]
        profile = "works"
        [agents.works]
        preset = "codex"
        fallback = "lazy"
        env = ["CODEX_API_KEY=hush-4712"]
        [agents.lazy]
        preset = "codex"
        command = ["{lazy}"]
        [agents.wrong]
        preset = "codex"
        command = ["{wrong}"]
        env = ["SOME_KEY"]
        [agents.away]
        preset = "goose"
        command = ["no-such-program-4711"]
        [prices.gpt]
        input = 10
        """,
    )


def test_agents_tells_what_is_there_and_can_log_in(agents: Bed) -> None:
    shown = agents.cli("agents")
    assert "* works" in shown
    assert "fallback  lazy" in shown
    assert "unproven" in shown
    assert "hush-471" not in shown
    found = {agent["name"]: agent for agent in agents.json("agents")}
    assert list(found)[:5] == ["default", "works", "lazy", "wrong", "away"]
    works, away = found["works"], found["away"]
    assert (works["chosen"], works["version"], works["login"]) == (
        *(True, "0.4711.0"),
        {"ready": True, "words": "with CODEX_API_KEY"},
    )
    assert (found["lazy"]["chosen"], found["lazy"]["login"]["ready"]) == (False, False)
    assert (away["path"], away["proven"], bool(away["install"])) == ("", False, True)


def test_an_agent_is_tried_in_a_scratch_repository(agents: Bed) -> None:
    before = sorted(agents.root.rglob("*"))
    said = agents.cli("agents", "test", "works")
    assert said.startswith("works works\n")
    assert "hello.txt was written and committed: Hi" in said
    assert "1_200 tokens read, 3 written; its cost is not known" in said

    trials = {}
    for name, why in (
        ("lazy", "hello.txt was not written as it was asked for"),
        ("wrong", "the agent could not log in: 401 Unauthorized"),
        ("away", "cannot start no-such-program-4711"),
    ):
        done = agents.run("-C", str(agents.root), "agents", "test", name)
        assert done.returncode == 1
        assert done.stdout.startswith(f"{name} does not work\n")
        assert why in done.stdout
        trials[name] = done.stdout
    assert "stderr: the key is [masked]" in trials["wrong"]
    assert "has no agent 'nobody'; it has: default, works" in agents.cli(
        *("agents", "test", "nobody"), code=2
    )
    assert sorted(agents.root.rglob("*")) == before, "nothing of the workspace is touched"


def test_what_was_asked_for_counts_and_not_how_its_line_ends(bed: Bed) -> None:
    bed.make("printf '\\nhello\\r\\n' > hello.txt\n")
    assert "default works" in bed.cli("agents", "test", "default")
    bed.set_agent("echo hello there > hello.txt\n")
    assert (
        "hello.txt was not written as it was asked for"
        in bed.run(*("-C", str(bed.root), "agents", "test", "default")).stdout
    )


def test_two_trials_of_one_agent_do_not_end_each_other(bed: Bed) -> None:
    gate, begun = bed.open / "gate", bed.open / "begun"
    os.mkfifo(gate)
    bed.make(f"mkdir {begun} 2>/dev/null && cat {gate}; echo hello > hello.txt\n")
    first = bed.spawn("agents", "test", "default")
    with gate.open("w"):  # opened when the first one reads
        assert "default works" in bed.cli("agents", "test", "default")
    said, trouble = first.communicate(timeout=bed.patience)
    assert (first.returncode, said.splitlines()[0]) == (0, "default works"), said + trouble


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_trial_that_is_told_to_end_takes_its_agent_and_its_folder_along(
    bed: Bed, tmp_path: Path, number: signal.Signals
) -> None:
    told, scratch = bed.open / "told", tmp_path / "scratch"
    os.mkfifo(told)
    scratch.mkdir()
    bed.environment["TMPDIR"] = str(scratch)
    bed.make(f"echo $$ > {told}; exec sleep 600\n")
    trial = bed.spawn("agents", "test", "default")
    agent = Witness.told(int(told.read_text()), str(scratch))
    try:
        trial.send_signal(number)
        said = trial.communicate(timeout=bed.patience)
        assert (trial.returncode, *said) == (128 + number, "", "")
        assert not agent.alive()
        assert list(scratch.iterdir()) == []
    finally:
        if agent.alive():
            os.kill(agent.pid, signal.SIGKILL)


def test_a_trial_that_is_to_outlive_its_terminal_does(bed: Bed) -> None:
    told, gate = bed.open / "told", bed.open / "gate"
    os.mkfifo(told)
    os.mkfifo(gate)
    bed.make(f"echo x > {told}; cat {gate}; echo hello > hello.txt\n")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; it is inherited
    try:
        trial = bed.spawn("agents", "test", "default")
    finally:
        signal.signal(signal.SIGHUP, before)
    told.read_text()
    trial.send_signal(signal.SIGHUP)
    gate.write_text("go")
    said, trouble = trial.communicate(timeout=bed.patience)
    assert (trial.returncode, said.splitlines()[0]) == (0, "default works"), said + trouble


def test_a_version_is_read_though_a_child_holds_the_output_and_the_child_is_ended(
    bed: Bed,
) -> None:
    held = bed.open / "held"
    os.mkfifo(held)
    seen = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    bed.make(
        f"exec 3> {held}\necho begun >&3\necho 1.2.3\nsleep 60 &\n",
        '[agent]\npreset = "codex"',
    )
    try:
        assert bed.json("agents")[0]["version"] == "1.2.3"
        assert os.read(seen, 100) == b"begun\n"
        assert os.read(seen, 100) == b"", "nobody has it open any more"
    finally:
        os.close(seen)


def test_init_writes_a_preset_down(bed: Bed) -> None:
    said = bed.cli("init", str(bed.root), "--agent", "codex")
    assert "name the variable in [agent].env" in said
    text = (bed.root / "config.toml").read_text()
    assert tomllib.loads(text)["agent"] == {"preset": "codex"}
    assert bed.json("agents")[0]["preset"] == "codex"
    assert "did you mean 'codex'?" in bed.cli("init", f"{bed.root}-2", "--agent", "codx", code=2)

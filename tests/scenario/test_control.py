"""The daemon under control: started, told, stopped, killed, and started again."""

import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed import COMMIT, HOLD, PATIENCE_SECONDS, Bed, daemon, witnesses

from alluvium_like.lifecycle import State

STATES = {state.value for state in State}


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any daemon."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def ask(bed: Bed, request: bytes) -> dict[str, object]:
    """Send raw bytes to the daemon as a client that misbehaves would."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(PATIENCE_SECONDS)
        link.connect(str(bed.root / ".alluvium" / "control.sock"))
        link.sendall(request)
        with link.makefile("rb") as stream:
            line = stream.readline()
    reply: dict[str, object] = json.loads(line) if line else {}
    return reply


def test_there_is_one_daemon_and_what_an_earlier_one_left_harms_nobody(
    bed: Bed, stranger: subprocess.Popen[bytes]
) -> None:
    bed.make()
    state = bed.root / ".alluvium"
    (state / "daemon.pid").write_text(f"{stranger.pid}\n")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(state / "control.sock"))
    assert bed.json("status")["daemon"] == {
        "running": False,
        "state": "stopped",
        "pid": None,
        "workspace": str(bed.root),
    }
    for more in ([], ["--force"]):
        assert bed.cli("stop", *more) == "no daemon runs\n"

    said = bed.cli("start")
    assert str(bed.root / "logs" / "daemon.jsonl") in said
    assert stat.S_IMODE((state / "control.sock").stat().st_mode) == 0o600
    served = daemon(bed)
    assert f"(pid {served.pid})" in said
    for command in ("serve", "start"):
        refused = bed.cli(command, code=1)
        assert f"a daemon already runs in {bed.root} (pid {served.pid})" in refused
        assert refused.count("\n") == 1

    for nonsense in (
        b"\xff\xfe\n",
        b"[]\n",
        b"{}\n",
        b'{"method": "stop", "params": 5}\n',
        b'{"method": ["stop"]}\n',
        b'{"method": "answer"}\n',
        b'{"method": "answer", "params": {"task_id": "x", "text": 5}}\n',
        b'{"method": "answer", "params": {"task_id": "x", "text": "\\udcff"}}\n',
        b'{"method": "cancel", "params": {"task_id": [1]}}\n',
        b'{"method": "cancel", "params": {"task_id": 1e999}}\n',
    ):
        assert "error" in ask(bed, nonsense), nonsense
    assert ask(bed, b"x" * 1_000_001) == {}
    assert "result" in ask(bed, b'{"method": "ping"}\n')

    # A daemon that hangs is killed by --force alone, and by what the kernel says of the lock.
    (state / "daemon.pid").write_text(f"{stranger.pid}\n")
    os.kill(served.pid, signal.SIGSTOP)
    assert "did not answer within 0.5 s" in bed.cli("stop", "--timeout", "0.5", code=1)
    assert served.alive()
    said = bed.cli("stop", "--force", "--timeout", "0.5")
    assert said.startswith(f"killed (pid {served.pid})")
    assert served.ends_within(PATIENCE_SECONDS)
    assert bed.json("status")["daemon"]["running"] is False
    assert stranger.poll() is None


def test_a_workspace_may_have_any_path(tmp_path: Path) -> None:
    folder = tmp_path / "it's 100% \N{LATIN SMALL LETTER E WITH ACUTE}" / ("long" * 25)
    folder.mkdir(parents=True)
    bed = Bed(folder / "work space")
    assert len(os.fsencode(bed.root / ".alluvium" / "control.sock")) > 108
    bed.make(COMMIT)
    try:
        bed.start()
        bed.drop("a task")
        assert bed.wait_for("a task", "done")["outcome"] == "merged"
        assert bed.cli("reload") == "nothing changed\n"
    finally:
        assert bed.cli("stop", "--force") == "stopped\n"


def test_what_scripts_read_keeps_its_shape(bed: Bed) -> None:
    """Before the first start, with the daemon up, with it down, and with a broken config.toml."""
    bed.make(
        """
        case "$(ls "$ALLUVIUM_TASK_DIR/input")" in
            merged) echo work > work.txt;;
            failed) exit 3;;
            asked) echo "Which colour?" > "$ALLUVIUM_AGENT_DIR/needs_human.md";;
        esac
        """,
    )

    def looks(running: bool) -> None:
        done = bed.run("-C", str(bed.root), "status", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        status = json.loads(done.stdout)
        assert status["daemon"]["running"] is running
        assert isinstance(status["daemon"]["pid"], int if running else type(None))
        assert set(status["tasks"]) == STATES
        assert set(status["outcomes"]) == {"merged", "noop"}
        assert all(
            type(n) is int for n in (*status["tasks"].values(), *status["outcomes"].values())
        )
        assert type(status["inbox"]) is type(status["quarantine"]) is int

    (bed.inbox / "half.part").touch()
    (bed.inbox / "waits").touch()
    looks(running=False)
    assert bed.json("status")["inbox"] == 1
    assert bed.json("list") == []
    (bed.inbox / "waits").unlink()

    (bed.root / ".alluvium" / "control.sock").touch()  # left by somebody, and not even a socket
    bed.start()
    names = ["merged", "nothing", "failed", "asked"]
    for name in names:
        bed.drop(name)
        bed.wait_for(name, "done", "failed", "needs_human")
    looks(running=True)
    bed.stop()
    (bed.root / "config.toml").write_text("not = toml = at all")
    looks(running=False)

    status = bed.json("status")
    assert bed.cli("status").startswith("daemon      stopped\n")
    counted = {state: n for state, n in status["tasks"].items() if n}
    assert counted == {"done": 2, "failed": 1, "needs_human": 1}
    assert status["outcomes"] == {"merged": 1, "noop": 1}
    listed = bed.run("-C", str(bed.root), "list", "--json")
    assert listed.stderr == ""
    tasks = json.loads(listed.stdout)
    assert [task["name"] for task in tasks] == names, "oldest first"
    promised = {"id", "name", "state", "outcome", "attempts", "revision_round", "merge_commit"}
    promised |= {"created_at", "updated_at"}
    for task in tasks:
        assert promised <= set(task)
        shown = bed.run("-C", str(bed.root), "show", task["id"], "--json")
        assert shown.stderr == ""
        document = json.loads(shown.stdout)
        assert {key: document[key] for key in promised} == {key: task[key] for key in promised}
        assert document["events"]
        assert {"checkpoints", "reason"} <= set(document)
    merged, nothing, failed, asked = tasks
    assert merged["merge_commit"] == bed.git("rev-parse", "main")
    assert (merged["outcome"], nothing["outcome"], failed["outcome"]) == ("merged", "noop", None)
    assert failed["merge_commit"] is None
    assert [t["name"] for t in bed.json("list", "--state", "failed")] == ["failed"]
    assert bed.json("show", asked["id"])["checkpoints"][0]["question"].strip() == "Which colour?"
    assert "Which colour?" in bed.cli("show", asked["id"])


def test_reload_takes_up_all_or_nothing_and_counts_at_once(bed: Bed) -> None:
    bed.make(HOLD + COMMIT, config="[safety]\nmax_workers = 1")
    pid = bed.start()
    for name in ("a", "b", "c", "d"):
        bed.drop(name)
    agent = witnesses(bed, "a", "agent")
    bed.wait_for("d", "queued")
    counts = bed.json("status")["tasks"]
    assert (counts["running"], counts["queued"]) == (1, 3)
    bed.configure("[safety]\nmax_workers = 3\n[integration]\nmax_revision_rounds = 7")
    said = bed.cli("reload").splitlines()
    assert said == ["changed: integration.max_revision_rounds", "changed: safety.max_workers"]
    agent += witnesses(bed, "b", "agent") + witnesses(bed, "c", "agent")
    assert all(witness.alive() for witness in agent), "three at the same time"
    assert bed.task("d")["state"] == "queued"

    good = (bed.root / "config.toml").read_text()
    (bed.root / "config.toml").write_text('[safety]\nmax_workers = "many"\n[agnet]\n')
    refused = bed.cli("reload", code=1)
    assert "[safety].max_workers: " in refused
    assert "[agnet]: unknown table" in refused
    assert refused.count("\n") == 2
    os.kill(pid, signal.SIGHUP)
    log = bed.root / "logs" / "daemon.jsonl"
    bed.wait(lambda: '"reload_refused"' in log.read_text(), "refused")
    (bed.root / "config.toml").write_text(good)
    assert bed.cli("reload") == "nothing changed\n", "the old one stayed in force"

    bed.configure("[safety]\nmax_workers = 4\n[integration]\nmax_revision_rounds = 7")
    os.kill(pid, signal.SIGHUP)
    assert witnesses(bed, "d", "agent")[0].alive()
    later = '[repo]\npath = "elsewhere"\n[safety]\nmax_workers = 4\nshutdown_grace_seconds = 4'
    bed.configure(later)
    assert bed.json("reload") == {
        "changed": ["integration.max_revision_rounds", "safety.shutdown_grace_seconds"],
        "needs_restart": ["repo.path"],
    }
    bed.configure("[safety]\nmax_workers = 4\nshutdown_grace_seconds = 4")
    assert bed.cli("reload") == "changed, needs a restart: repo.path\n"
    for name in ("a", "b", "c", "d"):
        bed.release(name)
    assert bed.wait_until_idle() == {"done": 4}
    assert len(bed.landed_task_ids()) == 4


def test_run_once_and_integrate_once_work_without_a_daemon(bed: Bed) -> None:
    bed.make(COMMIT, config="[safety]\ninbox_settle_seconds = 600")
    (bed.inbox / "a").write_text("x")
    assert "done            1  (1 merged, 0 noop)" in bed.cli("run-once", "--ignore-settle")
    assert bed.landed_task_ids() == [bed.task("a")["id"]]

    bed.configure("[integration]\nenabled = false")
    bed.drop("b")
    assert "worker_done     1" in bed.cli("run-once"), "it ends though this one waits"
    assert len(bed.landed_task_ids()) == 1
    bed.configure()
    bed.cli("integrate-once")
    assert bed.task("b")["state"] == "done"
    assert bed.landed_task_ids() == [bed.task("b")["id"], bed.task("a")["id"]]
    assert bed.json("status")["daemon"]["running"] is False

    bed.start()
    for command in ("run-once", "integrate-once"):
        refused = bed.cli(command, code=1)
        assert "a daemon already runs" in refused
        assert refused.count("\n") == 1


def test_the_log_is_printed_and_followed_until_the_task_rests(bed: Bed) -> None:
    bed.make(
        """
        echo begun  # what is no whole line yet may be the half of a secret
        printf 'caf\\303'
        while [ ! -e "$ALLUVIUM_AGENT_DIR/go" ]; do sleep 0.02; done
        printf '\\251 \\033[31m\\n'; echo aside >&2; echo work > work.txt
        """,
        config='[integration]\nrun_tests = ["echo tested"]',
    )
    bed.start()
    bed.drop("t")
    bed.wait_for("t", "running")
    with bed.spawn("log", "t", "--follow") as following:
        assert following.stdout is not None
        assert following.stderr is not None
        first = following.stdout.readline()
        assert first.endswith("attempts/1/stdout.log <==\n")
        quiet = cpu_seconds(following.pid)
        bed.cli("status")  # takes a while, in which nothing is put out
        bed.cli("list")
        assert cpu_seconds(following.pid) - quiet < 0.15, "it waits, it does not spin"
        bed.release("t")
        followed = following.stdout.read()
        assert following.stderr.read() == ""
    assert following.returncode == 0
    assert bed.task("t")["outcome"] == "merged"
    cafe = "caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{REPLACEMENT CHARACTER}[31m\n"
    for text in (followed, bed.cli("log", "t")):
        assert cafe in text, "inert, and no character torn apart"
        assert "stderr.log <==\naside\n" in text
        assert "logs/tests/1.log <==\n$ echo tested\ntested\n" in text


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

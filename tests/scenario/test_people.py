"""What a person does to tasks, with the daemon up and with it down: the same thing."""

import os
from pathlib import Path

from bed import Bed, Witness

# One agent for all: what it does is the name of the item, what it was told is in its prompt.
BY_NAME = """
outputs="$ALLUVIUM_AGENT_DIR/outputs"
case "$(ls "$ALLUVIUM_TASK_DIR/input")" in
    held*)
        if [ ! -e "$outputs/agent" ]; then
            setsid setsid sh -c 'trap "" TERM
                echo $$ > "$ALLUVIUM_AGENT_DIR/outputs/child"; while :; do sleep 0.05; done' &
            trap "" TERM
            echo $$ > "$outputs/agent"
            while :; do sleep 0.05; done
        fi;;
    failed*)
        if [ ! -e "$outputs/tried" ]; then touch "$outputs/tried"; exit 3; fi;;
    asked*)
        if ! grep -q "bright red" "$ALLUVIUM_PROMPT_FILE"; then
            echo "Which colour?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"
        fi;;
esac
echo work > "$ALLUVIUM_TASK_ID.txt"
"""


def refused(bed: Bed, *args: str) -> str:
    """Run one command that must be refused with one line, and return that line."""
    said = bed.cli(*args, code=1)
    assert said.count("\n") == 1, said
    return said


def outcome(bed: Bed, name: str) -> str:
    task = bed.wait_for(name, "done", "failed", "cancelled")
    return f"{task['state']}/{task['outcome']}"


def test_pause_holds_what_is_queued_until_resume(bed: Bed) -> None:
    bed.make(BY_NAME)
    assert bed.cli("pause").startswith("paused")
    bed.start()
    for name in ("a", "b"):
        bed.drop(name)
        bed.wait_for(name, "queued")
    assert bed.cli("reload") == "nothing changed\n"  # which makes every stage look again
    status = bed.json("status")
    assert status["tasks"]["queued"] == 2
    assert [c["name"] for c in status["conditions"]] == ["paused"]
    assert bed.cli("resume") == "resumed\n"
    assert bed.wait_until_idle() == {"done": 2}
    assert bed.json("status")["conditions"] == []


def test_cancel_ends_a_task_in_any_state_and_retry_begins_it_again(bed: Bed) -> None:
    bed.make(BY_NAME, config="[safety]\nmax_workers = 1\nshutdown_grace_seconds = 0.2")
    bed.start()
    bed.drop("held")
    bed.wait_for("held", "running")
    bed.drop("waits")
    bed.wait_for("waits", "queued")

    bed.cli("cancel", "waits")
    assert bed.task("waits")["state"] == "cancelled"
    outputs = bed.folder("held") / ".agent" / "outputs"
    processes = []
    for file in ("agent", "child"):
        bed.wait_for_file(outputs / file)
        task = outputs.parents[1].name
        processes.append(Witness.told(int((outputs / file).read_text()), task))
    assert [process.alive() for process in processes] == [True, True]
    bed.cli("cancel", "held")
    assert [process.alive() for process in processes] == [False, False]
    held = bed.task("held")
    assert (held["state"], held["reason"]) == ("cancelled", "cancelled by a person")
    assert "there is nothing to cancel" in refused(bed, "cancel", "held")

    bed.configure("[integration]\nenabled = false")
    bed.cli("reload")
    bed.drop("ready")
    bed.wait_for("ready", "worker_done")
    bed.cli("cancel", "ready")
    bed.configure()
    bed.cli("reload")
    bed.drop("after")
    assert outcome(bed, "after") == "done/merged"
    assert bed.task("ready")["state"] == "cancelled"
    assert bed.landed_task_ids() == [bed.task("after")["id"]]

    for name in ("held", "waits", "ready"):
        bed.cli("retry", name)
        assert outcome(bed, name) == "done/merged"
    assert len(bed.landed_task_ids()) == 4
    assert "only tasks in failed, cancelled, needs_human can be retried" in refused(
        bed, "retry", "held"
    )


def test_failed_tasks_are_retried_and_questions_answered(bed: Bed) -> None:
    """Everything once with the daemon up, and once with it down, taken up at its next start."""
    bed.make(BY_NAME)
    bed.start()
    for name in ("failed1", "failed2", "failed3", "asked1", "asked2"):
        bed.drop(name)
        bed.wait_for(name, "failed", "needs_human")

    before = bed.json("list")
    ids = {task["name"]: task["id"] for task in before}
    assert "no task matches 'nowhere'" in refused(bed, "cancel", "nowhere")
    assert "no task matches '\\udcff'" in refused(bed, "retry", os.fsdecode(b"\xff"))
    several = refused(bed, "answer", "asked", "bright red")
    assert f"'asked' matches several tasks: {ids['asked1']}, {ids['asked2']};" in several
    waits_not = refused(bed, "answer", "failed1", "bright red")
    assert f"{ids['failed1']} is failed; only tasks in needs_human can be answered" in waits_not
    for command in (["cancel", ""], ["answer", "asked1", " "], ["answer", "asked1"]):
        assert bed.cli(*command, code=2).splitlines()[-1].startswith("Error: ")
    assert bed.json("list") == before

    bed.cli("retry", "failed1")
    assert outcome(bed, "failed1") == "done/merged"
    bed.cli("answer", ids["asked1"][-6:], "--", os.fsdecode(b"- bright red \xff"))
    assert outcome(bed, "asked1") == "done/merged"
    assert bed.task("asked1")["checkpoints"][0]["answer"] == "- bright red \\udcff"

    bed.cli("pause")
    bed.drop("queued")
    bed.wait_for("queued", "queued")
    bed.stop()

    assert "only tasks in failed, cancelled, needs_human" in refused(bed, "retry", "asked1")
    bed.cli("retry", "failed2")
    bed.cli("answer", "asked2", "bright red")
    bed.cli("cancel", "queued")
    bed.cli("cancel", "failed3")
    assert "no task matches" in refused(bed, "answer", "nowhere", "x")
    assert "matches several tasks" in refused(bed, "cancel", "asked")
    assert "only tasks in needs_human" in refused(bed, "answer", "failed3", "x")
    states = {t["name"]: t["state"] for t in bed.json("list")}
    assert states["failed2"] == states["asked2"] == "queued"
    bed.cli("resume")
    bed.start()
    assert outcome(bed, "failed2") == "done/merged"
    assert outcome(bed, "asked2") == "done/merged"
    assert outcome(bed, "queued") == outcome(bed, "failed3") == "cancelled/None"


def test_items_are_submitted_whole_under_names_of_their_own(bed: Bed) -> None:
    """The daemon is down throughout; what was submitted waits in the inbox."""
    bed.make()
    source = bed.root.parent / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("deep")
    (source / "link").symlink_to("/etc/hostname")
    long = "\N{LATIN SMALL LETTER E WITH ACUTE}" * 127
    for name in (long, "-dash", os.fsdecode(b"raw\xff")):
        (bed.root.parent / name).write_text(name, errors="surrogateescape")

    def submit(*args: str, stdin: str | None = None) -> str:
        done = bed.run("-C", str(bed.root), "submit", *args, cwd=bed.root.parent, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout.removeprefix("submitted: ").removesuffix("\n")

    assert [submit("source"), submit("source"), submit(str(source), "--name", "other")] == [
        *("source", "source-2", "other")
    ]
    assert submit("source/.", "--name", "third") == "third"
    assert submit("-", stdin="from stdin") == "request.md"
    assert submit("-", "--name", "a.tar.gz", stdin="one") == "a.tar.gz"
    assert submit("-", "--name", "a.tar.gz", stdin="two") == "a-2.tar.gz"
    assert submit(long) == long
    assert submit("--", "-dash") == "-dash"
    assert submit(os.fsdecode(b"raw\xff")) == "raw\ufffd"
    assert bed.cli("example-task") == "submitted: example-task.md\n"
    inbox = bed.inbox
    assert (inbox / "source-2" / "sub" / "file").read_text() == "deep"
    assert (inbox / "source" / "link").readlink() == Path("/etc/hostname")
    assert (inbox / "request.md").read_text() == "from stdin"
    assert (inbox / "a-2.tar.gz").read_text() == "two"
    assert (inbox / long).read_text() == long

    before = sorted(inbox.iterdir())
    fifo = bed.root.parent / "source" / "fifo"
    os.mkfifo(fifo)
    for args, code in (
        (["nowhere"], 2),
        (["-", "--name", "a/b"], 2),
        (["-", "--name", ".hidden"], 2),
        (["-", "--name", "download.part"], 2),
        ([str(fifo)], 2),
        (["/dev/null"], 2),
        ([str(bed.root)], 2),
        ([str(source)], 1),
    ):
        said = bed.cli("submit", *args, code=code, stdin="x")
        assert said.startswith("alluvium-like: ")
        assert said.count("\n") == 1, said
    assert sorted(inbox.iterdir()) == before, "nothing half-copied is left"
    assert bed.json("status")["inbox"] == len(before)


def test_show_names_the_command_that_each_question_waits_for(bed: Bed) -> None:
    bed.make(
        """
        question="$ALLUVIUM_AGENT_DIR/needs_human.md"
        case "$ALLUVIUM_TASK_ID" in *-asked-*) echo "Colour?" > "$question";; esac
        mkdir -p .github && echo x > .github/x
        """
    )
    bed.start()
    for name, word, other in (("asked", "answer", "approve"), ("guarded", "approve", "answer")):
        bed.drop(name)
        task = bed.wait_for(name, "needs_human")
        shown = bed.cli("show", task["id"])
        assert f"alluvium-like {word} {task['id']}" in shown
        assert f"alluvium-like {other} {task['id']}" not in shown

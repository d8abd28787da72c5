"""What an agent is given, and that none of its secrets is written anywhere by the daemon."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from agent_words import AGENT, attempts, outputs, task
from bed import Bed

HUSH, FIXED, UNPASSED = "hush-4711-passed", "hush-4712-fixed", "hush-4713-not-passed"
SHAPED = "sk-proj-abcdefghijklmnop4714"


def places_of(root: Path, secret: str) -> set[str]:
    """Return the files that hold a text, but for what the agent itself wrote and the owner's."""
    found = set()
    for folder, folders, names in os.walk(root):
        folders[:] = [each for each in folders if each not in ("repo", "input", "outputs")]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and secret.encode() in path.read_bytes():
                found.add(str(path.relative_to(root)))
    return found


PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def test_an_agent_gets_what_is_named_and_no_secret_of_it_is_written(bed: Bed) -> None:
    bed.environment |= {"HUSH_KEY": HUSH, "OTHER_KEY": UNPASSED, "LC_TIME": "C"}
    bed.make(
        AGENT,
        f"""
        [agent]
        preset = "codex"
        env = ["HUSH_KEY", "API_TOKEN={FIXED}", "NO_COLOR=plain-4715", "NOT_THERE"]
        arguments = ["-c", "key={FIXED}"]
        """,
    )
    bed.start()
    bed.drop(
        "task",
        f"""
        env > "$outputs/env"
        begin t
        for each in "$HUSH_KEY" "$API_TOKEN" {SHAPED} "$NO_COLOR"; do
            say "it is $each"
            echo "to stdout $each"
            echo "to stderr $each" >&2
        done
        printf 'the last line of stderr %s' "$HUSH_KEY" >&2
        if [ $run = 1 ]; then
            echo "Is $HUSH_KEY right, or {SHAPED}?" > "$ALLUVIUM_AGENT_DIR/needs_human.md"
            through 10 1
        elif [ $run = 2 ]; then
            rm "$ALLUVIUM_AGENT_DIR"/discovery/*/needs_human.md
            printf '{{"status": "succeeded", "summary": "used %s"}}' "$API_TOKEN" \
                > "$ALLUVIUM_AGENT_DIR/result.json"
            echo done > work.txt
            through 20 2
        fi
        """,
    )
    bed.wait_for("task", "needs_human")
    assert "Is [masked] right, or [masked]?" in bed.cli("show", task(bed, "task").id)
    bed.cli("answer", task(bed, "task").id, f"no, {HUSH} is not")
    assert bed.wait_for("task", "done")["outcome"] == "merged"
    assert f"no, {HUSH} is not" in (outputs(bed, "task") / "prompt-2").read_text()
    bed.stop()

    given = (outputs(bed, "task") / "env").read_text().splitlines()
    names = {line.partition("=")[0] for line in given} - {"PWD", "SHLVL", "_", "OLDPWD"}
    assert names == {
        *("PATH", "HOME", "LANG", "LC_TIME", "HUSH_KEY", "API_TOKEN", "NO_COLOR"),
        *("ALLUVIUM_TASK_ID", "ALLUVIUM_TASK_DIR", "ALLUVIUM_AGENT_DIR", "ALLUVIUM_WORKTREE"),
        *("ALLUVIUM_BRANCH", "ALLUVIUM_PROMPT_FILE", "ALLUVIUM_BASE_BRANCH", "ALLUVIUM_RUN"),
        *("ALLUVIUM_ANSWERED", "ALLUVIUM_PORT_BASE", "RUST_LOG"),
        *("TMPDIR", *PROXY, *map(str.lower, PROXY)),  # of its box
    }

    agents_own = {".agent/result.json"}
    folder = bed.folder("task").relative_to(bed.root)
    for secret in (HUSH, FIXED, SHAPED):
        written = places_of(bed.root, secret) - {str(folder / name) for name in agents_own}
        said = {"config.toml"} if secret is FIXED else set()
        assert {name for name in written if not name.startswith(".alluvium/alluvium.db")} == said
    assert places_of(bed.root, UNPASSED) == set()
    with closing(sqlite3.connect(bed.root / ".alluvium" / "alluvium.db")) as db:
        db.execute("UPDATE checkpoints SET answer = ''")  # what a person says is kept as it is
        rows = "\n".join(db.iterdump())
    assert rows.count("[masked]") >= 3
    assert not any(secret in rows for secret in (HUSH, FIXED, SHAPED, UNPASSED))
    logs = bed.folder("task") / ".system" / "attempts" / "1"
    for name in ("stdout.log", "stderr.log", "transcript.jsonl"):
        assert (logs / name).read_text().count("[masked]") >= 3
        assert "plain-4715" in (logs / name).read_text(), "what is no secret stays"
    assert "key=[masked]" in (logs / "command.json").read_text()
    assert "[masked] is not" in (bed.folder("task") / ".agent" / "prompt.md").read_text()
    assert [each.outcome for each in attempts(bed, "task")] == ["ok", "ok"]


def test_what_one_agent_is_given_is_no_text_of_another_before_it_ever_ran(bed: Bed) -> None:
    bed.environment |= {"HUSH_KEY": HUSH, "LATER_KEY": UNPASSED}
    keyed = f'[agents.keyed]\nenv = ["HUSH_KEY", "API_TOKEN={FIXED}"%s]'
    bed.make(f"echo {HUSH} {FIXED} {UNPASSED}; echo '{HUSH}' > work.txt", keyed % "")
    bed.start()
    bed.drop("first")
    bed.wait_for("first", "done")
    bed.configure(keyed % ', "LATER_KEY"')
    bed.cli("reload")
    bed.drop("second")
    bed.wait_for("second", "done")
    said = [
        (bed.folder(name) / ".system" / "attempts" / "1" / "stdout.log").read_text()
        for name in ("first", "second")
    ]
    assert said == [f"[masked] [masked] {UNPASSED}\n", "[masked] [masked] [masked]\n"]


def test_words_of_a_stream_and_of_paths_that_are_passed_break_neither(bed: Bed) -> None:
    """A stream is read as it was told; a prompt names its own places; a landed commit is masked."""
    words = {"RUN_MODE": "result", "MODEL": "model-4711", "MY_KEY": HUSH}
    bed.environment |= words
    bed.make(
        AGENT,
        f"""
        [agent]
        preset = "claude"
        env = ["{'", "'.join(words)}", "MAX_MCP_OUTPUT_TOKENS=200000"]
        max_cost = 5.0
        [prices."model-4711"]
        input = 3000.0
        """,
    )
    bed.start()
    bed.drop(
        f"{HUSH}.md",
        """
        init s1 "$MODEL"
        uses 100
        echo "{\\"type\\": \\"result\\", \\"contextWindow\\": $MAX_MCP_OUTPUT_TOKENS}" >&2
        echo done > work.txt
        git add work.txt
        git commit -qm "Use $MY_KEY"
        result 0 100
        """,
    )
    assert bed.wait_for(f"{HUSH}.md", "done", "failed", "needs_human")["outcome"] == "merged"
    (attempt,) = attempts(bed, f"{HUSH}.md")
    assert (attempt.cost, attempt.model) == (0.3, "[masked]")
    assert bed.base_log()[0].endswith("Use [masked]")
    folder = bed.folder(f"{HUSH}.md")
    prompt = (folder / ".agent" / "prompt.md").read_text()
    assert f"`{folder}/input`" in prompt
    assert "- [masked].md" in prompt
    logged = (folder / ".system" / "attempts" / "1" / "stderr.log").read_text()
    assert logged == '{"type": "[masked]", "contextWindow": 200000}\n'

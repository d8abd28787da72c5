"""The agent that comes with the daemon: applies the patches of a task, without any model.

    python -P -m alluvium_like.agents.builtin

Where patches do not apply, or the tests failed with them, it asks a person. The input is looked at
with lstat and never through links. It exits 0 unless it cannot work at all, and imports little: it
is started for every task.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from alluvium_like.agents.job import Found, Job, look_at
from alluvium_like.agents.patches import (
    Effect,
    Git,
    GitTrouble,
    Refusal,
    apply_all,
    open_regular,
    printable,
)

_PATCH_SUFFIXES = (".patch", ".diff")
_MAX_HASHED_BYTES = 64 * 1024 * 1024
_MAX_LISTED = 10_000
_MAX_SHOWN = 100
_TAIL_LINES = 40
_CHOICES = """\
What you can do:

- answer, with any text: the patches are applied again to the base as it is then{promise};
- drop corrected patches into the inbox as a new task, and cancel this one;
- cancel this task.
"""


class Done(NamedTuple):
    """The attempt did what the patches ask for."""

    summary: str
    details: str


class Question(NamedTuple):
    """Only a person can go on from here."""

    summary: str
    text: str


def main() -> int:
    """Carry out the job that the environment describes."""
    try:
        job = Job.told_by(os.environ)
    except KeyError as missing:
        sys.stderr.write(f"{missing.args[0]} is not set: the daemon sets it for its agents\n")
        return 2
    try:
        _work(job)
    except (OSError, GitTrouble) as error:
        sys.stderr.write(f"the built-in agent cannot work: {error}\n")
        return 1
    return 0


def _work(job: Job) -> None:
    found = sorted(look_at(job.input))
    patches = [each.path for each in found if _is_patch(each)]
    _describe(job, found, patches)
    if patches:
        report = _carry_out(job, patches)
    else:
        report = Done("No patches in the input; nothing to do.", "")
    if isinstance(report, Question):
        job.ask(report.summary, report.text)
    else:
        job.conclude("succeeded", report.summary, report.details)


def _is_patch(found: Found) -> bool:
    return found.kind == "file" and found.path.suffix.lower() in _PATCH_SUFFIXES


def _describe(job: Job, found: list[Found], patches: list[Path]) -> None:
    entries = [
        {
            "path": job.name_of(each.path),
            "kind": each.kind,
            "size": each.status.st_size,
            "sha256": _digest(each),
        }
        for each in found[:_MAX_LISTED]
    ]
    (job.agent_dir / "outputs").mkdir(exist_ok=True)
    inventory = {"entries": entries, "left_out": len(found) - len(entries)}
    job.write("outputs/inventory.json", json.dumps(inventory, indent=1) + "\n")
    names = [f"- `{job.name_of(patch)}`" for patch in patches]
    shown = "\n".join(_bounded(names)) or "- none"
    job.write(
        "understanding.md",
        f"# Understanding\n\nThe input holds {_count(len(found), 'entry', 'entries')}; all of them "
        f"are listed in outputs/inventory.json. The patches among them are what I can carry out:\n"
        f"\n{shown}\n",
    )
    job.write(
        "plan.md",
        "# Plan\n\nApply the patches in this order, all or none of them; commit each; ask a person "
        f"when one does not apply.\n\n{shown}\n",
    )


def _digest(found: Found) -> str | None:
    if found.kind != "file" or found.status.st_size > _MAX_HASHED_BYTES:
        return None
    try:
        with open_regular(found.path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None


def _carry_out(job: Job, patches: list[Path]) -> Done | Question:
    git = Git(job.worktree)
    before, merging = git.must("rev-parse", "HEAD"), git.commit("MERGE_HEAD")
    base = merging or (git.commit(f"refs/heads/{job.base}") if job.base else "") or before
    # From the base every time: patches that are applied afresh need no conflict resolved.
    git.return_to(base)
    effects = apply_all(git, patches)
    if isinstance(effects, Refusal):
        git.return_to(before)
        return _ask_about_refusal(job, effects, base)
    revision = None if job.answered else _end_of_revision_request(job)
    if revision is not None and _same_files(git, before):
        git.return_to(before)
        return _ask_about_tests(revision)
    return _tell(job, git, base, list(zip(patches, effects, strict=True)))


def _same_files(git: Git, before: str) -> bool:
    return git.run("diff-tree", "--quiet", before, "HEAD").returncode == 0


def _tell(job: Job, git: Git, base: str, results: list[tuple[Path, Effect]]) -> Done:
    commits = git.must("log", "--format=- %h %s", f"{base}..HEAD").splitlines()
    lines = [f"- `{job.name_of(patch)}`: {effect.value}" for patch, effect in results]
    patches = _count(len(results), "patch", "patches")
    if commits:
        summary = f"Applied {patches} in {_count(len(commits), 'commit', 'commits')}."
    else:
        summary = f"Nothing to commit: {patches}, and the base holds every change in them."
    sections = ["## Patches", "", *_bounded(lines)]
    if commits:
        sections += ["", "## Commits", "", *_bounded([printable(line) for line in commits])]
    return Done(summary, "\n" + "\n".join(sections) + "\n")


def _ask_about_refusal(job: Job, refusal: Refusal, base: str) -> Question:
    name = job.name_of(refusal.patch)
    return Question(
        f"{name} does not apply.",
        f"# `{name}` does not apply\n\n"
        f"It does not fit {printable(job.base) or 'the base'} at {base[:12]}. Git says:\n\n"
        f"{_indented(refusal.complaint)}\n\n"
        "All patches of a task go in together, so nothing was committed.\n\n"
        + _CHOICES.format(promise=""),
    )


def _ask_about_tests(revision: str) -> Question:
    return Question(
        "The patches were sent back, and applying them again changes nothing.",
        "# The patches apply, but were sent back\n\n"
        "Applied again to the newest base they give the same files, so I cannot do better. The end "
        f"of what the daemon reported:\n\n{_indented(revision)}\n\n"
        + _CHOICES.format(promise=" and tested again, which helps after a change of the base"),
    )


def _end_of_revision_request(job: Job) -> str | None:
    text = job.revision_request()
    return None if text is None else "\n".join(map(printable, text.splitlines()[-_TAIL_LINES:]))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _bounded(lines: list[str]) -> list[str]:
    left = len(lines) - _MAX_SHOWN
    return [*lines[:_MAX_SHOWN], f"- and {left} more"] if left > 0 else lines


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


if __name__ == "__main__":
    sys.exit(main())

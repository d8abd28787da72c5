"""The prompt of an attempt, made from a template that people may edit.

What is put in is never read as template again. A template that has no place for the revision or
the answers gets them at its end: an agent must not miss them because somebody shortened a text.
"""

from collections.abc import Sequence
from importlib import resources

from alluvium_like.agents.command import AttemptPlaces, fill, substitute

_LISTED_INPUTS = 50
_REVISION = """\
## This is a revision

An earlier attempt of this task could not be landed. `{agent_dir}/revision_request.md` says why: it
names the files and both sides, or holds the output of the tests. Your branch holds the earlier
work, with the new base merged in. Where that merge was left unfinished, the conflict is in your
worktree: resolve it, keep what both sides meant, and commit. What the earlier attempts wrote about
themselves is in `{agent_dir}/discovery/`."""
_ANSWERS = "## What a person answered\n\nThese answers bind you; the last one counts most."


def default_template() -> str:
    """Return the built-in template."""
    return resources.files(__package__).joinpath("prompt.md").read_text(encoding="utf-8")


def render_prompt(
    template: str,
    places: AttemptPlaces,
    *,
    title: str,
    inputs: Sequence[str],
    revision: bool,
    answers: Sequence[tuple[str, str]],
) -> str:
    """Fill `template`; `inputs` are names to show, `answers` pairs of question and answer."""
    for section in ("{revision}", "{answers}"):
        if section not in template:
            template += f"\n{section}\n"
    sections = {
        "title": _one_line(title),
        "inputs": _inventory(inputs),
        "revision": fill(_REVISION, places) if revision else "",
        "answers": _dialogue(answers),
    }
    return substitute(template, places.values() | sections).rstrip() + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _inventory(inputs: Sequence[str]) -> str:
    lines = [f"- {_one_line(name)}" for name in inputs[:_LISTED_INPUTS]]
    if len(inputs) > _LISTED_INPUTS:
        lines.append(f"- and {len(inputs) - _LISTED_INPUTS} more")
    return "\n".join(lines) or "- nothing"


def _dialogue(answers: Sequence[tuple[str, str]]) -> str:
    if not answers:
        return ""
    parts = [
        f"Asked:\n\n{_quoted(asked)}\n\nAnswered:\n\n{_quoted(said)}" for asked, said in answers
    ]
    return "\n\n".join([_ANSWERS, *parts])


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines() or ["(no text)"])

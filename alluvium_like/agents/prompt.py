"""The prompt of an attempt, made from a template that people may edit.

What is put in is never read as template again. A template that has no place for the revision or
the answers gets them at its end: an agent must not miss them because somebody shortened a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
_CUT_OFF = """\
## This goes on where an earlier attempt had to stop

An earlier attempt was cut off before it was through: see `{agent_dir}/discovery/`. Your branch
holds what it had done by then. Look at it, and bring it to an end."""
_GOES_ON = """\
Task {task_id} goes on, in the same worktree `{worktree}` on the branch `{branch}`. All that you
were told about it still holds: commit your work, write `{agent_dir}/result.md` and
`{agent_dir}/result.json` last, and ask by `{agent_dir}/needs_human.md` where you need a person.
Files may have changed since you last looked."""
_ANSWERS = "## What a person answered\n\nThese answers bind you; the last one counts most."


def default_template() -> str:
    """Return the built-in template."""
    return resources.files(__package__).joinpath("prompt.md").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class News:
    """What is to be said of a task: its title, and what happened since its first attempt.

    `answers` are pairs of question and answer; `cut_off`: the last attempt had to stop early.
    """

    title: str
    revision: bool = False
    cut_off: bool = False
    answers: Sequence[tuple[str, str]] = ()


def render_prompt(
    template: str, places: AttemptPlaces, news: News, *, inputs: Sequence[str]
) -> str:
    """Fill `template`; `inputs` are names to show."""
    for section in ("{revision}", "{answers}"):
        if section not in template:
            template += f"\n{section}\n"
    sections = {
        "title": _one_line(news.title),
        "inputs": _inventory(inputs),
        "revision": fill(_revision(news), places),
        "answers": _dialogue(news.answers),
    }
    return substitute(template, places.values() | sections).rstrip() + "\n"


def render_continuation(places: AttemptPlaces, news: News) -> str:
    """Return what an agent is told that goes on with its own session: only what is new."""
    sections = [fill(_GOES_ON, places), fill(_revision(news), places), _dialogue(news.answers[-1:])]
    return "\n\n".join(filter(None, sections)) + "\n"


def _revision(news: News) -> str:
    return "\n\n".join(
        text for text, holds in ((_REVISION, news.revision), (_CUT_OFF, news.cut_off)) if holds
    )


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

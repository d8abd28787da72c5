import re
from pathlib import Path

from alluvium_like.agents.command import AttemptPlaces
from alluvium_like.agents.prompt import News, default_template, render_prompt

PLACES = AttemptPlaces(
    "t-1", Path("/w/t"), Path("/w/t/.agent"), Path("/w/tree"), "task/t-1", Path("/w/t/.agent/p.md")
)


def render(
    template: str,
    *,
    title: str = "Fix it",
    inputs: tuple[str, ...] = ("note.md",),
    revision: bool = False,
    answers: tuple[tuple[str, str], ...] = (),
) -> str:
    news = News(title, revision=revision, answers=answers)
    return render_prompt(template, PLACES, news, inputs=inputs)


def test_the_default_template_says_what_an_agent_must_know() -> None:
    text = render(default_template(), revision=True, answers=(("Which one?", "The blue one."),))
    for needed in (
        "/w/t/input",
        "- note.md",
        "/w/tree",
        "task/t-1",
        "AGENTS.md",
        "understanding.md",
        "plan.md",
        "result.md",
        "result.json",
        "needs_human.md",
        "outputs/",
        "effects/ledger.jsonl",
        "/w/t/.agent/revision_request.md",
        "> Which one?",
        "> The blue one.",
    ):
        assert needed in text
    assert not re.search(r"\{[a-z_]+\}", text)


def test_sections_that_do_not_apply_leave_nothing_behind() -> None:
    text = render(default_template())
    assert "revision" not in text
    assert "answered" not in text
    assert text.endswith("note them.\n")


def test_what_is_put_in_is_not_read_as_template() -> None:
    text = render("{title}\n{inputs}", title="{worktree}\n# Orders", inputs=("{branch}\n- x",))
    assert text == "{worktree} # Orders\n- {branch} - x\n"


def test_a_shortened_template_still_tells_of_revision_and_answers() -> None:
    text = render("Do {title}.", revision=True, answers=(("?", "yes\nand no"),))
    assert "revision_request.md" in text
    assert "> yes\n> and no" in text


def test_a_long_inventory_is_cut_and_says_so() -> None:
    text = render("{inputs}", inputs=tuple(f"f{number}" for number in range(60)))
    assert text.splitlines()[-1] == "- and 10 more"
    assert render("{inputs}", inputs=()) == "- nothing\n"

"""RECOVERY.md as data: the facts with their values, and what its tables say of a combination."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "RECOVERY.md").read_text(encoding="utf-8")
State = Mapping[str, str]
"""One combination: fact to value."""


@dataclass(frozen=True)
class Rule:
    """One row of a table: which values it is about, and what it says in its other columns."""

    number: int
    values: Mapping[str, frozenset[str]]
    says: str

    def matches(self, state: State) -> bool:
        return all(state[fact] in values for fact, values in self.values.items())


def rows(heading: str) -> list[dict[str, str]]:
    """Return the rows of the first table below a heading, by the names of its columns."""
    section = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL
    )
    assert section, f"RECOVERY.md has no heading '{heading}'"
    return tables(section[1])[0]


def tables(text: str) -> list[list[dict[str, str]]]:
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = [
            [cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()
        ]
        head, _, *body = ([cell.replace("`", "") for cell in line] for line in lines)
        found.append([dict(zip(head, line, strict=True)) for line in body])
    return found


FACTS = {row["fact"]: tuple(row["values"].split(", ")) for row in rows("The facts")}
WORDS = {
    row["word"]: frozenset(row["stands for"].split(", "))
    for row in tables(TEXT[TEXT.index("| word |") :])[0]
}


def values(fact: str, cell: str) -> frozenset[str]:
    """Return what a cell stands for; a value or word that nobody knows is a mistake."""
    known = frozenset(FACTS[fact])
    if cell == "any":
        return known
    words = [WORDS.get(word, frozenset({word})) for word in cell.split(", ")]
    found = frozenset().union(*words)
    assert found <= known, f"RECOVERY.md: {sorted(found - known)} is no value of '{fact}'"
    return found


def rules(heading: str, column: str) -> list[Rule]:
    return [
        Rule(
            number,
            {fact: values(fact, cell) for fact, cell in row.items() if fact in FACTS},
            row[column],
        )
        for number, row in enumerate(rows(heading), start=1)
    ]


IMPOSSIBLE = rules("What cannot be", "because")
TOLD = rules("What recovery leaves to people", "verify tells")
ACTIONS = rules("What recovery does", "action")


def all_states() -> Iterator[State]:
    for chosen in product(*FACTS.values()):
        yield dict(zip(FACTS, chosen, strict=True))


def matching(among: Sequence[Rule], state: State) -> list[Rule]:
    return [rule for rule in among if rule.matches(state)]


def told_states() -> Iterator[State]:
    for state in all_states():
        if not matching(IMPOSSIBLE, state) and matching(TOLD, state):
            yield state


def legal_states() -> Iterator[State]:
    for state in all_states():
        if not matching(IMPOSSIBLE, state) and not matching(TOLD, state):
            yield state


def every_pair(states: Sequence[State]) -> list[State]:
    """Choose some states that hold, among them, every pair of values that any state holds."""
    pairs = [frozenset(combinations(state.items(), 2)) for state in states]
    left = set().union(*pairs)
    chosen: list[State] = []
    while left:
        best = max(range(len(states)), key=lambda number: len(pairs[number] & left))
        chosen.append(states[best])
        left -= pairs[best]
    return chosen

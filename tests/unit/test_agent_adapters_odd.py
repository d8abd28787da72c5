"""Whatever a program prints is read, and no reader ever raises for it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_bed import STREAMS, call_in, run

from alluvium_like.agents.adapters import ADAPTERS
from alluvium_like.agents.adapters.base import count, dollars

RECORDED = sorted(
    {line for path in STREAMS.glob("*/*.txt") for line in path.read_bytes().splitlines()}
)
HUGE = b'{"type":"' + b"x" * 300_000
SHAPES: tuple[object, ...] = (
    *(None, True, -1, 10**400, 1e999),
    *("half \ud800", [], ["x"], {}, {"x": []}),
)


@st.composite
def mutated_lines(draw: st.DrawFn) -> bytes:
    """Draw a recorded line, or any, or a huge one: as it is, cut, or with junk in it."""
    line = draw(st.sampled_from(RECORDED) | st.binary(max_size=50) | st.just(HUGE))
    at = draw(st.integers(0, len(line)))
    how = draw(st.sampled_from(["as it is", "cut", "junk"]))
    if how == "as it is":
        return line
    return line[:at] if how == "cut" else line[:at] + draw(st.binary(max_size=8)) + line[at:]


@pytest.mark.parametrize("program", ADAPTERS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(mutated_lines(), max_size=8))
def test_whatever_is_printed_is_read_and_never_raises(
    program: str, lines: list[bytes], tmp_path: Path
) -> None:
    told = run(program, lines, call_in(tmp_path))

    assert 0 <= told.usage.tokens < 2**63
    assert told.usage.cost is None or told.usage.cost >= 0
    assert told.record.session.isprintable()
    (told.record.session + told.judged.reason + told.usage.model).encode()


def misshapen(told: object) -> Iterator[object]:
    """Yield an object of JSON with each of its values in turn replaced by something else."""
    if not isinstance(told, dict | list):
        return
    for key in list(told) if isinstance(told, dict) else range(len(told)):
        kept = told[key]
        for shape in SHAPES:
            told[key] = shape
            yield told
        told[key] = kept
        for _ in misshapen(kept):
            yield told


@pytest.mark.parametrize("program", ADAPTERS)
def test_a_value_of_another_shape_anywhere_in_a_stream_never_raises(
    program: str, tmp_path: Path
) -> None:
    recorded = program if (STREAMS / program).exists() else "claude"
    paths = (STREAMS / recorded).glob("*.txt")
    lines = {line for path in paths for line in path.read_text().splitlines() if line[:1] == "{"}
    firsts = {re.sub(r"\W+|\d+", "", line)[:60]: line for line in sorted(lines)}
    reader = ADAPTERS[program].reader(call_in(tmp_path))
    for line in firsts.values():
        for told in misshapen(json.loads(line)):
            for event in reader.line(json.dumps(told)):
                text = json.dumps(event.document(), ensure_ascii=False)
                assert text.encode()
    assert list(reader.finish()) is not None


@pytest.mark.parametrize(
    "told", [None, "5", [], -1, -0.5, float("nan"), float("inf"), 10**400, 1.7e308]
)
def test_what_cannot_be_a_number_of_tokens_or_a_cost_is_none(told: object) -> None:
    assert (count(told), dollars(told)) == (0, None)

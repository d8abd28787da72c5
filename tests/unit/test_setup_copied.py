"""Secrets in copied files are masked; nothing is written where a link leads away."""

from pathlib import Path

import pytest

from alluvium_like import masking
from alluvium_like.config.setup import Setup
from alluvium_like.errors import SetupFailed
from alluvium_like.masking import MASKED, mask
from alluvium_like.stages.copied import missing_of, place_for, remember_copied

DOTENV = """
# comment
A=plain-value-4731
export B="quoted value 4732" # why
C='single # 4733'
D=hash#inside-4734
DATABASE_URL=postgres://user:pass-4735@localhost/db
E="line one 4736-long-enough
line two 4737-long-enough"
MODE=production
EMPTY=
SHORT=abc
  F=spaced-4738
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_values", set())
    monkeypatch.setattr(masking, "_known", masking._Known())


def test_values_of_a_dotenv_file_are_masked_but_for_plain_words(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(DOTENV)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "more").write_text("KEY=in-a-folder-4739\n")
    (tmp_path / "code.py").write_text("import os\nNAME='not-a-dotenv-4740'\n")
    remember_copied(Setup(copy=(".env", "conf", "code.py", "missing")), tmp_path)
    for secret in (
        "plain-value-4731",
        "quoted value 4732",
        "single # 4733",
        "hash#inside-4734",
        "postgres://user:pass-4735@localhost/db",
        "line two 4737-long-enough",
        "spaced-4738",
        "in-a-folder-4739",
    ):
        assert mask(f"it is {secret}, yes") == f"it is {MASKED}, yes"
    for word in ("production", "not-a-dotenv-4740", "comment", "abc"):
        assert mask(word) == word


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").touch()
    assert missing_of(Setup(copy=(".env", "a/b")), tmp_path) == ["a/b"]


def test_nothing_is_written_where_a_link_leads_away(tmp_path: Path) -> None:
    tree, away = tmp_path / "tree", tmp_path / "away"
    tree.mkdir()
    away.mkdir()
    (tree / "conf").symlink_to(away)
    (tree / ".env").symlink_to(away / "x")
    for name in ("conf/.env", "conf/deeper/.env", ".env"):
        with pytest.raises(SetupFailed, match=rf"\[setup\] names {name}"):
            place_for(tree, name)
    assert place_for(tree, "new/folder/.env") == tree / "new" / "folder" / ".env"
    assert list(away.iterdir()) == []

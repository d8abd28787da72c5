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
    (tmp_path / "code.py").write_text("if a == 'compared-4740':\n    pass\nhttps://host-4741\n")
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
    for word in ("production", "compared-4740", "host-4741", "comment", "abc"):
        assert mask(word) == word


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"\xef\xbb\xbfTOKEN=behind-a-mark-4742\n", "behind-a-mark-4742"),
        (b"TOKEN = spaced-4743\r\n", "spaced-4743"),
        (b"set -a\nTOKEN=below-a-command-4744\n", "below-a-command-4744"),
        (b"api:\n  token: yaml-4745\n", "yaml-4745"),
        (b'PASSWORD="hunterhunter"\n', "hunterhunter"),
        (b"api_key=hunterhunter\n", "hunterhunter"),
    ],
)
def test_a_secret_is_masked_however_its_file_writes_it(
    tmp_path: Path, content: bytes, secret: str
) -> None:
    (tmp_path / "file").write_bytes(content)
    remember_copied(Setup(copy=("file",)), tmp_path)
    assert mask(f"it is {secret}") == f"it is {MASKED}"


def test_secrets_behind_links_are_masked_too_and_links_that_lead_around_end(tmp_path: Path) -> None:
    conf, away = tmp_path / "conf", tmp_path / "away"
    for folder in (conf, away):
        folder.mkdir()
    (away / "more").write_text("TOKEN=behind-a-link-4746\n")
    (conf / "linked").symlink_to(away)
    (away / "around").symlink_to(conf)
    remember_copied(Setup(copy=("conf",)), tmp_path)
    assert mask("it is behind-a-link-4746") == f"it is {MASKED}"


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

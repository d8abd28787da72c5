"""Completion comes with the program: `alluvium-like --install-completion` writes it for a shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("alluvium-like")
COMPLETE = """
eval "$(_ALLUVIUM_LIKE_COMPLETE=source_bash alluvium-like)"
read -ra COMP_WORDS <<< "$1"
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_alluvium_like_completion alluvium-like
printf '%s\\n' "${COMPREPLY[@]}"
"""

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not installed")


def output(*argv: str) -> str:
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run(
        argv, env=environment, text=True, capture_output=True, check=True
    ).stdout.strip()


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("alluvium-like stat", ["status"]),
        ("alluvium-like run", ["run-once"]),
        ("alluvium-like service in", ["install"]),
        ("alluvium-like list --st", ["--state"]),
    ],
)
def test_bash_completes_commands_and_options(line: str, words: list[str]) -> None:
    assert output("bash", "-c", COMPLETE, "-", line).split() == words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_every_shell(shell: str) -> None:
    script = output("env", f"_ALLUVIUM_LIKE_COMPLETE=source_{shell}", "alluvium-like")
    assert f"_ALLUVIUM_LIKE_COMPLETE=complete_{shell}" in script


def test_the_program_offers_to_install_it() -> None:
    said = output("alluvium-like", "--help")
    assert "--install-completion" in said
    assert "--show-completion" in said

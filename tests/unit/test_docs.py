"""What README, CHANGELOG and the example configuration say is what the program has."""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from alluvium_like import __version__
from alluvium_like.agents.command import AttemptPlaces
from alluvium_like.cli.main import app
from alluvium_like.config import PLACEHOLDERS, RESTART_KEYS, Config, parse_config
from alluvium_like.config.tables import fields, tables
from alluvium_like.lifecycle import State
from alluvium_like.surface.initialise import AGENTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
CODE = re.findall(r"`([^`\n]+)`", PROSE)
SNIPPETS = re.findall(r"^```toml\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
COMMAND_ROWS = dict(
    re.findall(r"^\| `((?:service )?[a-z-]+)([^`]*)` \|", section := "", flags=re.MULTILINE)
)

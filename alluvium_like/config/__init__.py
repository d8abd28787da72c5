"""config.toml: typed and frozen, its defaults in one place, its mistakes told all at once.

`tables` says what there is, `values` what each may be, `problems` what a mistake is called, `load`
reads, `text` writes. What a command, a test or the environment may carry can be a secret and is
never repeated in a message.
"""

from alluvium_like.config.integration import TestCommand
from alluvium_like.config.load import changed_keys, load_config, parse_config
from alluvium_like.config.tables import RESTART_KEYS, Config
from alluvium_like.config.values import PLACEHOLDERS

__all__ = [
    "PLACEHOLDERS",
    "RESTART_KEYS",
    "Config",
    "TestCommand",
    "changed_keys",
    "load_config",
    "parse_config",
]

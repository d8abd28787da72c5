"""Logging, set up once: JSON lines in logs/daemon.jsonl, and readable lines on stderr in front.

Events are snake_case; context carries `task_id` and `attempt`. Never the environment or a secret.
"""

import logging
import logging.handlers
import sys
from pathlib import Path

import structlog


def set_up_logging(log_file: Path | None, *, console: bool) -> None:
    """Send the daemon's events to `log_file` and, with `console`, to stderr as well."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handlers: list[logging.Handler] = []
    if log_file is not None:
        to_file = logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
        to_file.setFormatter(_formatter(shared, structlog.processors.JSONRenderer()))
        handlers.append(to_file)
    if console:
        to_terminal = logging.StreamHandler(sys.stderr)
        to_terminal.setFormatter(
            _formatter(shared, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
        )
        handlers.append(to_terminal)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _formatter(
    shared: list[structlog.typing.Processor], renderer: structlog.typing.Processor
) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of one module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger

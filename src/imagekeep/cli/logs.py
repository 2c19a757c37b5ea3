"""Logs of the commands that stay: one line a change on standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys

import click

from imagekeep.cli.formats import format_time
from imagekeep.escaping import escape

LEVELS = ("debug", "info", "warning", "error")

log_format = click.option(
    "--log-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="Of the log."
)
log_level = click.option(
    "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="The least to log."
)

_FIELDS = ("reference", "transition", "image_id")
"""What a record may carry besides its message: fields of their own in JSON."""


def start_logging(form: str, level: str) -> None:
    """Send what imagekeep logs, from `level` on, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSONLines() if form == "json" else _TextLines())
    logger = logging.getLogger("imagekeep")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


class _TextLines(logging.Formatter):
    """TIME LEVEL MESSAGE, with what a terminal would interpret escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        time = format_time(int(record.created * 1_000_000))
        return f"{time} {record.levelname.lower():7} {escape(record.getMessage())}"


class _JSONLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line = {
            "time": format_time(int(record.created * 1_000_000)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line.update({field: str(getattr(record, field)) for field in _FIELDS if hasattr(record, field)})
        return json.dumps(line)

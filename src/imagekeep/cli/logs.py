"""Logs of `watch` and `serve` on standard error, as text or as JSON lines.

The journal gets a priority before each line (sd-daemon(3)) and no time, because it adds its own.
"""

from __future__ import annotations

import json
import logging
import sys

import click

from imagekeep.cli.formats import format_time
from imagekeep.escaping import escape
from imagekeep.systemd import is_journal
from imagekeep.times import from_microseconds

LEVELS = ("debug", "info", "warning", "error")

log_format = click.option(
    "--log-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="Log format."
)
log_level = click.option(
    "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="Minimum log level."
)

_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
"""The priorities of syslog(3) for Python's levels."""

_FIELDS = ("reference", "transition", "image_id")
"""Extra attributes of a log record, which become fields in JSON."""


def start_logging(form: str, level: str) -> None:
    """Write imagekeep's log records from `level` up to standard error, as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    journal = is_journal(sys.stderr)
    lines = _JSONLines() if form == "json" else _Messages() if journal else _TextLines()
    handler.setFormatter(_Prioritized(lines) if journal else lines)
    logger = logging.getLogger("imagekeep")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


class _Prioritized(logging.Formatter):
    """Lines with a priority prefix, which the journal strips."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        return f"<{_PRIORITIES.get(record.levelname, 6)}>{self._lines.format(record)}"


class _Messages(logging.Formatter):
    """MESSAGE, escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        return escape(record.getMessage())


class _TextLines(logging.Formatter):
    """TIME LEVEL MESSAGE, escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        time = format_time(from_microseconds(int(record.created * 1_000_000)))
        return f"{time} {record.levelname.lower():7} {escape(record.getMessage())}"


class _JSONLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        line = {
            "time": format_time(from_microseconds(int(record.created * 1_000_000))),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line.update({field: str(getattr(record, field)) for field in _FIELDS if hasattr(record, field)})
        return json.dumps(line)

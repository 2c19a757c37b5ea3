"""The `imagekeep` command: words and formats for people; the only place that prints or exits."""

from __future__ import annotations

from imagekeep.cli.entry import main, run

__all__ = ["main", "run"]

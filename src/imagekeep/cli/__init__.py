"""The `imagekeep` command; only this package prints or exits."""

from __future__ import annotations

from imagekeep.cli.entry import main, run

__all__ = ["main", "run"]

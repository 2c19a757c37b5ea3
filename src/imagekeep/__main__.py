"""Runs the command as `python -m imagekeep`."""

from __future__ import annotations

from imagekeep.cli import run

if __name__ == "__main__":
    run()

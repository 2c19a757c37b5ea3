"""Runs the command as `python -m imagekeep`."""

from __future__ import annotations

import sys

from imagekeep.cli import main

if __name__ == "__main__":
    sys.exit(main())

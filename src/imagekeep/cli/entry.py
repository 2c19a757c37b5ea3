"""Runs the command and turns every error into a message and an exit code."""

from __future__ import annotations

import gc
import io
import os
import sys
from typing import TYPE_CHECKING

import click

from imagekeep.cli.configuration import explain
from imagekeep.cli.exit_codes import ExitCode, exit_code
from imagekeep.cli.output import (
    ERROR,
    OutputError,
    discard,
    escape_unencodable,
    flush,
    print_error,
    print_message,
)
from imagekeep.errors import ImagekeepError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

PROGRAM = "imagekeep"

COMPLETING = "_IMAGEKEEP_COMPLETE"
"""The variable with which the scripts of `imagekeep completion` request completions."""


def run() -> NoReturn:
    """Run this process's command and exit with its exit code.

    Skips the interpreter's shutdown, which takes a tenth of the time of a command that only reads. Output has been
    flushed by then, and files, locks and threads have been closed by their owners.
    """
    # Python's default of 700 new objects makes importing 5% slower, and finds no garbage.
    gc.set_threshold(20_000)
    os._exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default sys.argv's, and return its exit code.

    Every error that a user, a file or a source can cause becomes one line on standard error and a code of
    `imagekeep.cli.exit_codes`. An interrupt, or a closed pipe on standard output, ends the command quietly.
    """
    escape_unencodable()
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        flush()
    except OutputError as error:
        discard()
        if error.closed:
            return ExitCode.PIPE_CLOSED
        print_error(str(error))
        return ExitCode.FAILED
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        return _invoke(arguments)
    except click.UsageError as error:
        if message := explain(error):
            print_error(message)
        else:
            print_message(_usage(error), priority=ERROR)
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except ImagekeepError as error:
        print_error(str(error))
        return exit_code(error)
    except OSError as error:
        named = f"{printable(error.filename)}: " if error.filename is not None else ""
        print_error(f"{named}{error.strerror or error}")
    except ImportError as error:
        print_error(f"incomplete installation: {error} (reinstall imagekeep)")
    except MemoryError:
        print_error("out of memory")
    return ExitCode.FAILED


def _invoke(arguments: Sequence[str]) -> int:
    # Imported here because importing chooses the SQLite driver, and an error in that is reported like any other.
    from imagekeep.cli.root import root

    if instruction := os.environ.get(COMPLETING):
        from imagekeep.cli.completion import complete

        complete(root, instruction)
        return ExitCode.OK
    try:
        with root.make_context(PROGRAM, list(arguments)) as context:
            return root.invoke(context) or ExitCode.OK
    except click.exceptions.Exit as request:
        return request.exit_code


def _usage(error: click.UsageError) -> str:
    """Return click's message for a usage error."""
    text = io.StringIO()
    error.show(text)
    return text.getvalue().rstrip("\n").expandtabs(4)

"""Runs the command: from its arguments to its exit code, with nothing raised on the way out."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

import click

from imagekeep.cli.exit_codes import ExitCode, exit_code
from imagekeep.cli.output import OutputError, complain, discard, flush, make_lenient, warn
from imagekeep.errors import ImagekeepError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

PROGRAM = "imagekeep"

COMPLETING = "_IMAGEKEEP_COMPLETE"
"""The variable by which a shell asks for completions; its script is `imagekeep completion`'s."""


def run() -> NoReturn:
    """Run the command of this process, and end the process with its exit code.

    It ends at once: what was written is flushed, and files, locks and threads were ended by those who began them.
    Python would first take apart every module, a tenth of the time of a command that only reads.
    """
    os._exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default the process's own, and return its exit code.

    Whatever a user, a file or a source can cause ends in one line on standard error and a code of
    `imagekeep.cli.exit_codes`; an interrupt, and a reader of standard output that goes, end it quietly.
    """
    make_lenient()
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        flush()
    except OutputError as error:
        discard()
        if error.closed:
            return ExitCode.PIPE_CLOSED
        complain(str(error))
        return ExitCode.FAILED
    return code


def _run(arguments: Sequence[str]) -> int:
    """Run the command, and say on standard error why it failed."""
    try:
        return _invoke(arguments)
    except click.UsageError as error:
        warn(_explain(error))
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except ImagekeepError as error:
        complain(str(error))
        return exit_code(error)
    except OSError as error:
        named = f"{printable(error.filename)}: " if error.filename is not None else ""
        complain(f"{named}{error.strerror or error}")
    except ImportError as error:
        complain(f"a part of this installation is missing: {error}")
    except MemoryError:
        complain("out of memory")
    return ExitCode.FAILED


def _invoke(arguments: Sequence[str]) -> int:
    """Parse the arguments and run the command that they name."""
    # Imported here because the SQLite driver is chosen at import, which may fail; that too ends in one line.
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


def _explain(error: click.UsageError) -> str:
    """Return what click says of wrong arguments."""
    text = io.StringIO()
    error.show(text)
    return text.getvalue().rstrip("\n").expandtabs(4)

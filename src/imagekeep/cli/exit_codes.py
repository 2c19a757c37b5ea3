"""What the command's exit code says; the one table from errors to codes."""

from __future__ import annotations

import enum

from imagekeep.errors import (
    AmbiguousError,
    ContentNotFoundError,
    FailedPreconditionError,
    ImagekeepError,
    InvalidArgumentError,
    MissingExtraError,
    NamespaceNotFoundError,
    NotAStoreError,
    NotFoundError,
    SchemaVersionError,
    SourceUnsupportedError,
    UntrustedFileError,
)


class ExitCode(enum.IntEnum):
    """How the command ended; 1 also means that `diff` found a difference.

    5 means that a sync is done, except for references that could not be read.

    130 and 141 are what a shell reports of a program ended by the signal.
    """

    OK = 0
    NOT_FOUND = 1
    DIFFERENT = 1
    USAGE = 2
    AMBIGUOUS = 3
    REFUSED = 4
    INCOMPLETE = 5
    FAILED = 125
    INTERRUPTED = 130
    PIPE_CLOSED = 141


EXIT_CODES: dict[type[ImagekeepError], ExitCode] = {
    ImagekeepError: ExitCode.FAILED,
    NotFoundError: ExitCode.NOT_FOUND,
    ContentNotFoundError: ExitCode.FAILED,
    InvalidArgumentError: ExitCode.USAGE,
    AmbiguousError: ExitCode.AMBIGUOUS,
    FailedPreconditionError: ExitCode.REFUSED,
    MissingExtraError: ExitCode.FAILED,
    NamespaceNotFoundError: ExitCode.FAILED,
    NotAStoreError: ExitCode.FAILED,
    SchemaVersionError: ExitCode.FAILED,
    SourceUnsupportedError: ExitCode.FAILED,
    UntrustedFileError: ExitCode.FAILED,
}
"""The code of each class of errors and of what derives from it, unless that has a line of its own."""


def exit_code(error: ImagekeepError) -> ExitCode:
    """Return the code with which the command ends for an error."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)

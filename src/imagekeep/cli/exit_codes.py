"""The command's exit codes, and the code of each error."""

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
    """Exit codes of the command.

    5 means that a sync finished but could not read some references. 130 and 141 are the codes that a shell reports
    for SIGINT and SIGPIPE.
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
"""The code of each error class; a subclass without an entry has its base's code."""


def exit_code(error: ImagekeepError) -> ExitCode:
    """Return the exit code for an error."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)

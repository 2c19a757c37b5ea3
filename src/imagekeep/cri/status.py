"""What a call that fails is answered with: a gRPC code and a message, containerd's where it has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import grpc

from imagekeep.errors import AmbiguousError, Category, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagekeep.errors import ImagekeepError

Code: TypeAlias = grpc.StatusCode


class RpcError(Exception):
    """Raised to end a call with this code and message."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


CODES: Final[Mapping[Category, Code]] = {
    Category.NOT_FOUND: Code.NOT_FOUND,
    Category.INVALID_ARGUMENT: Code.INVALID_ARGUMENT,
    Category.AMBIGUOUS: Code.UNKNOWN,
    Category.FAILED_PRECONDITION: Code.FAILED_PRECONDITION,
    Category.PERMISSION_DENIED: Code.PERMISSION_DENIED,
    Category.UNAVAILABLE: Code.UNAVAILABLE,
    Category.CORRUPT: Code.DATA_LOSS,
}
"""The code of each category; UNKNOWN is what containerd sends for an error that errdefs does not know."""


def rpc_error_of(error: ImagekeepError) -> RpcError:
    """Return how an error of ours is answered; its message names things, and never shows a config."""
    return RpcError(CODES[error.category], str(error))


def unresolved(name: str, error: ImagekeepError) -> RpcError:
    """Return how a name that could not be resolved is answered (containerd: ImageStatus, RemoveImage).

    A name that begins several ids is ambiguous. So is the empty name, which begins all of them; containerd takes
    it for the only image where it has just one, and imagekeep never does.
    """
    if isinstance(error, AmbiguousError) or (not name and isinstance(error, InvalidArgumentError)):
        return RpcError(Code.UNKNOWN, f'can not resolve "{name}" locally: ambiguous digest string')
    return rpc_error_of(error)

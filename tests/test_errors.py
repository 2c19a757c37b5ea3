"""Errors can be copied and pickled."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest

from imagekeep import errors
from imagekeep.errors import (
    AmbiguousError,
    ImagekeepError,
    InvalidDigestError,
    InvalidDocumentError,
    InvalidReferenceError,
    MissingExtraError,
    Stage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

DIGEST = f"sha256:{'a' * 64}"

OF_MORE_THAN_A_MESSAGE: list[ImagekeepError] = [
    AmbiguousError("aa", [DIGEST] * 12, 30),
    InvalidDigestError("sha256:zz", InvalidDigestError.Reason.LENGTH),
    InvalidDocumentError(DIGEST, InvalidDocumentError.Reason.TYPE, "config: not an object"),
    InvalidReferenceError("A b", "bad_format"),
    MissingExtraError("grpcio", "containerd"),
]


def every_error() -> list[ImagekeepError]:
    """Return one error of every class."""
    known = {type(error) for error in OF_MORE_THAN_A_MESSAGE}
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ImagekeepError) and kind not in known
    ]
    return [*OF_MORE_THAN_A_MESSAGE, *(kind("what is the matter") for kind in kinds)]


def pickled(error: ImagekeepError) -> ImagekeepError:
    """Pickle an error and load it again."""
    return pickle.loads(pickle.dumps(error))  # type: ignore[no-any-return]


@pytest.mark.parametrize("copied", [pickled, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_an_error_survives_copy_and_pickle(
    error: ImagekeepError, copied: Callable[[ImagekeepError], ImagekeepError]
) -> None:
    error.reference, error.stage = "docker.io/library/hello:v1", Stage.SIZE
    again = copied(error)
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_copy_of_missing_extra_error_is_a_complete_import_error() -> None:
    assert pickled(MissingExtraError("grpcio", "cri")).msg == MissingExtraError("grpcio", "cri").msg  # type: ignore[attr-defined]

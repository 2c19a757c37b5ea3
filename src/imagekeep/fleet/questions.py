"""The questions that a fleet answers, of a centre on PostgreSQL or of exported stores.

A question is a statement on the views of the contract, which both kinds of fleet have.
"""

from __future__ import annotations

import contextlib
import enum
import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from imagekeep.digest import is_digest, parse_query
from imagekeep.errors import (
    AmbiguousError,
    ImageNotFoundError,
    InvalidArgumentError,
    InvalidReferenceError,
    NotFoundError,
    printable,
)
from imagekeep.fleet import statements
from imagekeep.reference import parse_docker_ref, parse_normalized

if TYPE_CHECKING:
    from datetime import datetime

Row = tuple[Any, ...]

_PARAMETER = re.compile(r"(?<!:):(\w+)")

_HEX = re.compile("[0-9a-f]{4,}")
"""What may be a truncated digest; write such a name out, as in `docker.io/library/cafe`."""


class Fleet(Protocol):
    """What answers questions: rows of a statement on the views, with its named parameters."""

    def rows(self, statement: str, **parameters: Any) -> list[Row]:
        """Return the rows of a statement; raises the errors of the fleet."""
        ...

    @property
    def dated(self) -> bool:
        """Return whether the fleet knows its past."""
        ...


class Kind(enum.StrEnum):
    """What an argument names."""

    IMAGE = "image"
    TARGET = "target"
    LAYER = "layer"
    REFERENCE = "reference"


class Subject(NamedTuple):
    """What a question is about: an image id, a target, a layer's diff id, or a reference."""

    kind: Kind
    value: str


_HOLDS = {
    Kind.IMAGE: statements.HOLDS_IMAGE,
    Kind.TARGET: statements.HOLDS_TARGET,
    Kind.LAYER: statements.HOLDS_LAYER,
    Kind.REFERENCE: statements.HOLDS_REFERENCE,
}
_LACKS = {
    Kind.IMAGE: statements.LACKS_IMAGE,
    Kind.TARGET: statements.LACKS_TARGET,
    Kind.LAYER: statements.LACKS_LAYER,
    Kind.REFERENCE: statements.LACKS_REFERENCE,
}


def positional(statement: str) -> str:
    """Return a statement with psycopg's parameters for the named ones."""
    return _PARAMETER.sub(r"%(\1)s", statement)


def find_subject(fleet: Fleet, name: str) -> Subject:
    """Return what a name stands for: a full or truncated digest of an image, target or layer, or a reference.

    Raises ImageNotFoundError, and AmbiguousError for a truncated digest of several.
    """
    if found := _find_digest(fleet, name):
        return found
    spellings = [name]
    with contextlib.suppress(InvalidReferenceError):
        spellings.append(str(parse_docker_ref(name)))
    for spelling in spellings:
        if fleet.rows(statements.REFERENCE_IMAGES, value=spelling):
            return Subject(Kind.REFERENCE, spelling)
    raise ImageNotFoundError(f"no node has {printable(name)}")


def _find_digest(fleet: Fleet, name: str) -> Subject | None:
    if not is_digest(name) and not _HEX.fullmatch(name.removeprefix("sha256:")):
        return None
    low, high = (name, f"{name}0") if is_digest(name) else parse_query(name).range_of("sha256")
    found = fleet.rows(statements.KNOWN_DIGESTS, low=low, high=high)
    digests = sorted({digest for digest, _ in found})
    if len(digests) > 1:
        raise AmbiguousError(name, digests)
    kinds = {kind for _, kind in found}
    return next((Subject(kind, digests[0]) for kind in Kind if kind in kinds), None)


def holds(fleet: Fleet, subject: Subject) -> list[Row]:
    """Return node, reference, image id, target, pin and since of every reference to a subject."""
    return fleet.rows(_HOLDS[subject.kind], value=subject.value)


def lacks(fleet: Fleet, subject: Subject, *, pinned: bool) -> list[Row]:
    """Return node, status and last report of the nodes that lack a subject, or have it without a pin."""
    return fleet.rows(_LACKS[subject.kind], value=subject.value, pinned=pinned)


def drift(fleet: Fleet, name: str | None) -> list[Row]:
    """Return reference, image id, target and nodes of every tag that differs, or of one repository or reference."""
    if name is None:
        return fleet.rows(statements.DRIFT)
    reference = parse_normalized(name)
    if reference.tag or reference.digest:
        return fleet.rows(statements.DRIFT_OF_REFERENCE, value=str(reference))
    return fleet.rows(statements.DRIFT_OF_REPOSITORY, value=reference.name)


def at(fleet: Fleet, node: str, time: datetime) -> list[Row]:
    """Return reference, image id, target, pin and since of what a node had at a time; raises NotFoundError."""
    _require_dated(fleet)
    if not fleet.rows(statements.KNOWS_NODE, node=node):
        raise NotFoundError(f"no such node: {printable(node)}")
    return fleet.rows(statements.AT, node=node, time=time)


def rollout(fleet: Fleet, name: str) -> list[Row]:
    """Return hour, nodes gained, nodes lost and nodes of an image; raises AmbiguousError for one of several."""
    _require_dated(fleet)
    subject = find_subject(fleet, name)
    ids = [subject.value] if subject.kind is Kind.IMAGE else _images_of(fleet, subject)
    if len(ids) != 1:
        raise AmbiguousError(name, ids)
    return fleet.rows(statements.ROLLOUT, value=ids[0])


def _images_of(fleet: Fleet, subject: Subject) -> list[str]:
    return sorted({image_id for _, _, image_id, *_ in holds(fleet, subject)})


def _require_dated(fleet: Fleet) -> None:
    if not fleet.dated:
        raise InvalidArgumentError("exports hold no history of the fleet (ask a centre, with --to)")

"""Finds the departure from containerd (docs/containerd.md) that an operation meets.

The rule depends on the operation and the state before it, which both stores share until then; not on Go's answer or
the case.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from imagekeep.digest import is_digest, parse_query
from imagekeep.errors import AmbiguousError, ImageNotFoundError
from imagekeep.reference import sort_key
from tests.conformance.answers import NOTHING, recorded_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.conformance.answers import Operation, StoreState

READING = ("resolve", "get", "list", "is_pinned")


class Departure(enum.StrEnum):
    """The ways in which imagekeep departs from containerd."""

    EXACT = "references are compared exactly"
    AS_GIVEN = "a reference is stored as it was given"
    UNCHANGED = "a failed update changes nothing"
    PIN = "a pin needs a reference that its image has"
    WHOLE_ID = "an id is a whole, valid digest"
    NAMED = "an image has at least one reference"
    EMPTY_ID = "an empty id is invalid"
    AGREES = "an update names its own reference: references and ref_cache agree"


def departures(operations: Sequence[Operation]) -> Iterator[tuple[int, Departure]]:
    """Return each operation that a departure excludes, by number, up to the first that writes.

    After that the two stores differ, and nothing more can be compared.
    """
    state = NOTHING
    for number, operation in enumerate(operations):
        if found := departure(operation, state):
            yield number, found
            if operation["op"] not in READING:
                return
        state = recorded_state(operation, state)


def departure(operation: Operation, state: StoreState) -> Departure | None:
    """Name the departure that excludes an operation in a state, or return None."""
    match operation:
        case {"op": "get" | "is_pinned" | "pin" | "unpin", "id": ""}:
            return Departure.EMPTY_ID
        case {"op": "pin", "id": image_id, "ref": reference}:
            found = look_up(image_id, state)
            foreign = found is not None and reference not in state["images"][found]["references"]
            return Departure.PIN if foreign else None
        case {"op": "update"}:
            return departure_of_update(operation, state)
    return None


def departure_of_update(operation: Operation, state: StoreState) -> Departure | None:
    """Name the departure that excludes an update: a removal, an addition, or both if a reference moves."""
    reference, image = operation["ref"], operation.get("image")
    old = state["ref_cache"].get(reference)
    if image and image["id"] == old:
        return None  # only its pin may change, and the image that is handed in is not looked at
    if old is not None and loses_others(reference, state["images"][old]["references"]):
        return Departure.EXACT
    return departure_of_addition(reference, image, state) if image else None


def departure_of_addition(reference: str, image: Operation, state: StoreState) -> Departure | None:
    """Name the departure that excludes adding an image under a reference."""
    if not image["references"]:
        return Departure.NAMED
    if image["references"] != [reference]:
        return Departure.AGREES
    if not is_digest(image["id"]):
        return Departure.UNCHANGED if look_up(image["id"], state) is None else Departure.WHOLE_ID
    merged = [reference, *state["images"].get(image["id"], {"references": ()})["references"]]
    rewritten = len(merged) > 1 and any(sort_key(name)[1] != name for name in merged)
    return Departure.AS_GIVEN if rewritten else None


def loses_others(reference: str, references: Sequence[str]) -> bool:
    """Return whether removing one reference by Go's comparison removes another too."""
    return any(other != reference and equal_fold(other, reference) for other in references)


def equal_fold(one: str, other: str) -> bool:
    """Return whether two texts are equal under Unicode's simple folding (Go: strings.EqualFold)."""
    return list(map(_simple_fold, one)) == list(map(_simple_fold, other))


def _simple_fold(character: str) -> str:
    """Fold one character to one character, as simple folding does."""
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return folded
    return character


def look_up(image_id: str, state: StoreState) -> str | None:
    """Return the only image that a full or truncated id matches, or None; an empty id matches the only image."""
    images = list(state["images"])
    if not image_id:
        return images[0] if len(images) == 1 else None
    try:
        return parse_query(image_id).choose(images)
    except (ImageNotFoundError, AmbiguousError):
        return None

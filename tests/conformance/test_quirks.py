"""Labelled scenarios of containerd's surprising behaviour, and the differences from it, one test each.

A scenario agrees in full where no departure applies, and otherwise up to the first one that writes. Each test of
a departure shows, for every scenario that runs into it, what Go's store said then and what this one says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import Image, InvalidArgumentError, Store
from imagekeep.reference import sort_key, sort_references
from tests.conformance.answers import (
    NOTHING,
    looking_into,
    perform,
    recorded_state,
    state_of,
)
from tests.conformance.data import cases
from tests.conformance.departures import READING, Departure, departures, equal_fold, look_up
from tests.conformance.holders import MODES, Holder
from tests.worker import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.conformance.answers import Answer, Operation, StoreState
    from tests.conformance.data import Case

CASES = [pytest.param(case["ops"], id=name) for name, case in cases("quirks")]


class Meeting:
    """A scenario's step that meets a departure: the state before, and both answers."""

    def __init__(self, operation: Operation, before: StoreState, answer: Answer, after: StoreState) -> None:
        self.operation = operation
        self.before = before
        self.go_class, self.go_result = operation["class"], operation.get("result")
        self.go_state = recorded_state(operation, before)
        self.our_class, self.our_result = answer
        self.our_state = after

    @property
    def reference(self) -> str:
        return str(self.operation["ref"])

    @property
    def image_id(self) -> str:
        return str(self.operation["image"]["id"])


def meetings(departure: Departure) -> pytest.MarkDecorator:
    """Parametrize a test with each scenario that meets a departure, up to that operation."""
    found: list[Any] = []
    for name, case in cases("quirks"):
        for number, met in departures(case["ops"]):
            if met is departure:
                found.append(pytest.param(case["ops"][: number + 1], id=f"{name}:{number}"))
    return pytest.mark.parametrize("meeting", found, indirect=True)


@pytest.fixture
def store(volatile_path: Path) -> Iterator[Store]:
    with Store.open(volatile_path, platform=PLATFORM) as opened:
        yield opened


@pytest.fixture
def meeting(request: pytest.FixtureRequest, store: Store) -> Meeting:
    """Run a scenario up to its last operation, on a store that agrees until then."""
    *prefix, last = request.param
    before = NOTHING
    with looking_into(store.path) as connection:
        for operation in prefix:
            perform(store, operation)
            before = recorded_state(operation, before)
        assert state_of(connection) == before
        answer = perform(store, last)
        return Meeting(last, before, answer, state_of(connection))


@pytest.mark.parametrize("holder", MODES, indirect=True)
@pytest.mark.parametrize("operations", CASES)
def test_a_scenario_agrees_except_for_its_departures(
    operations: Sequence[Operation], holder: Holder, volatile_path: Path
) -> None:
    excluded = dict(departures(operations))
    state = NOTHING
    with looking_into(volatile_path) as connection:
        holder.open(volatile_path)
        for number, operation in enumerate(operations):
            if number in excluded and operation["op"] in READING:
                continue
            if number in excluded:
                break
            answer = holder.ask(perform, operation)
            assert answer == (operation["class"], operation.get("result")), (number, operation)
            state = recorded_state(operation, state)
            assert state_of(connection) == state, (number, operation)


@meetings(Departure.EXACT)
def test_references_are_compared_exactly(meeting: Meeting) -> None:
    """Go removes every reference that differs only in case; imagekeep removes only the named one."""
    old = meeting.before["ref_cache"][meeting.reference]
    had = meeting.before["images"][old]["references"]
    go_has = meeting.go_state["images"].get(old, {"references": []})["references"]
    ours = meeting.our_state["images"][old]["references"]
    assert go_has == [name for name in had if not equal_fold(name, meeting.reference)]
    assert ours == [name for name in had if name != meeting.reference]
    assert len(go_has) < len(ours)


@meetings(Departure.EXACT)
def test_a_reference_that_differs_in_case_still_names_its_image(meeting: Meeting) -> None:
    """Go's cache resolves the other reference to an image that lacks it or is gone; here both agree."""

    def astray(state: StoreState) -> list[str]:
        images, cache = state["images"], state["ref_cache"]
        return [
            name for name in cache if name not in images.get(cache[name], {"references": []})["references"]
        ]

    assert astray(meeting.go_state)
    assert not astray(meeting.our_state)


@meetings(Departure.AS_GIVEN)
def test_a_reference_is_stored_as_written(meeting: Meeting) -> None:
    """Go rewrites references when it sorts them; here they keep their spelling, in the same order."""
    go_has = meeting.go_state["images"][meeting.image_id]["references"]
    ours = meeting.our_state["images"][meeting.image_id]["references"]
    given = {meeting.reference, *meeting.before["images"][meeting.image_id]["references"]}
    assert ours == sort_references(given)
    assert go_has == [sort_key(name)[1] for name in ours]
    assert go_has != ours


@meetings(Departure.AS_GIVEN)
def test_a_reference_can_be_removed_as_written(meeting: Meeting, store: Store) -> None:
    """Go cannot find a reference that it rewrote, so the image stays; here it is deleted with its last one."""
    rewritten = [name for name in meeting.our_state["ref_cache"] if sort_key(name)[1] != name]
    assert set(meeting.go_state["images"][meeting.image_id]["references"]).isdisjoint(rewritten)
    for name in list(store.get(meeting.image_id).references):
        store.apply(name, None)
    assert meeting.image_id not in [image.id for image in store.list()]


@meetings(Departure.UNCHANGED)
def test_a_failed_update_changes_nothing(meeting: Meeting) -> None:
    """Before Go fails, it caches the bad id and removes the reference from its image."""
    assert "ok" not in (meeting.go_class, meeting.our_class)
    assert meeting.go_state["ref_cache"][meeting.reference] == meeting.image_id
    assert meeting.our_state == meeting.before


@meetings(Departure.UNCHANGED)
def test_a_failed_update_fails_with_the_class_of_go(meeting: Meeting) -> None:
    """Go calls a bad id ambiguous if several ids begin with it; here it is always invalid."""
    whole = ("invalid_digest_format", "invalid_digest_length", "unsupported_algorithm")
    assert meeting.our_class in whole
    assert meeting.go_class in (meeting.our_class, "ambiguous")


@meetings(Departure.WHOLE_ID)
def test_an_id_is_a_whole_valid_digest(meeting: Meeting) -> None:
    """Go stores an image under a leading part of another's id, where no look-up finds it; here that is refused."""
    assert meeting.go_class == "ok"
    assert meeting.image_id in meeting.go_state["images"]
    assert look_up(meeting.image_id, meeting.before) != meeting.image_id
    assert meeting.our_class in ("invalid_digest_format", "invalid_digest_length", "unsupported_algorithm")
    assert meeting.our_state == meeting.before


@meetings(Departure.PIN)
def test_a_pin_needs_a_reference_that_its_image_has(meeting: Meeting) -> None:
    """Go pins an image by any text; here that is refused."""
    pinned = look_up(meeting.operation["id"], meeting.before)
    assert meeting.go_class == "ok"
    assert meeting.reference in meeting.go_state["pinned_refs"][pinned]
    assert meeting.our_class == "failed_precondition"
    assert meeting.our_state == meeting.before


@meetings(Departure.NAMED)
def test_an_image_has_at_least_one_reference(meeting: Meeting, store: Store) -> None:
    """Go stores an image without references; here an update gives it its own, and `add` refuses it."""
    assert meeting.go_state["images"][meeting.image_id]["references"] == []
    assert meeting.our_state["images"][meeting.image_id]["references"] == [meeting.reference]
    image = Image(meeting.image_id, (), "", 0, pinned=False, config_json=b"{}")
    with pytest.raises(InvalidArgumentError, match="at least one reference"):
        store.add(image)


@meetings(Departure.AGREES)
def test_an_update_names_its_own_reference(meeting: Meeting) -> None:
    """Go accepts an image with any references under any name (its own Update never does); here they agree."""
    assert meeting.go_state["images"][meeting.image_id]["references"] != [meeting.reference]
    assert meeting.reference in meeting.our_state["images"][meeting.image_id]["references"]
    assert meeting.our_state["ref_cache"][meeting.reference] == meeting.image_id


@meetings(Departure.EMPTY_ID)
def test_an_empty_id_is_invalid(meeting: Meeting) -> None:
    """To Go an empty id is the only image or ambiguous; here it is invalid."""
    images = min(len(meeting.before["images"]), 2)
    if meeting.operation["op"] == "is_pinned":
        assert (meeting.our_class, meeting.our_result) == ("ok", False)
    else:
        assert meeting.go_class == ("not_found", "ok", "ambiguous")[images]
        assert meeting.our_class == "invalid_argument"
    assert meeting.our_state == meeting.before


@pytest.mark.parametrize("departure", Departure)
def test_every_departure_has_a_scenario(departure: Departure) -> None:
    scenarios: list[Case] = [case for _, case in cases("quirks")]
    met = {found for case in scenarios for _, found in departures(case["ops"])}
    assert departure in met

"""The transitions of an update."""

from __future__ import annotations

import pytest

from imagekeep import ObservedImage
from imagekeep.transition import ReferenceChange, ReferenceState, Transition, change_to, decide
from tests.model import IMAGES

A, B = (image.id for image in IMAGES[:2])
PLATFORM = "linux/amd64"

CASES = [
    (None, None, Transition.ABSENT),
    (ReferenceState(A, pinned=False), None, Transition.VANISHED),
    (ReferenceState(A, pinned=True), None, Transition.VANISHED),
    (None, ReferenceState(A, pinned=False), Transition.NEW),
    (None, ReferenceState(A, pinned=True), Transition.NEW),
    (ReferenceState(A, pinned=False), ReferenceState(A, pinned=False), Transition.UNCHANGED),
    (ReferenceState(A, pinned=True), ReferenceState(A, pinned=True), Transition.UNCHANGED),
    (ReferenceState(A, pinned=False), ReferenceState(A, pinned=True), Transition.PINNED),
    (ReferenceState(A, pinned=True), ReferenceState(A, pinned=False), Transition.UNPINNED),
    (ReferenceState(A, pinned=True), ReferenceState(B, pinned=True), Transition.MOVED),
    (ReferenceState(A, pinned=True), ReferenceState(B, pinned=False), Transition.MOVED),
    (ReferenceState(A, pinned=False), ReferenceState(B, pinned=True), Transition.MOVED),
    (ReferenceState(A, pinned=False), ReferenceState(B, pinned=False), Transition.MOVED),
]
each_case = pytest.mark.parametrize(("before", "after", "transition"), CASES)


def changed(before: ReferenceState | None, after: ReferenceState | None) -> ReferenceChange:
    return ReferenceChange("busybox", decide(before, after), before, after)


@each_case
def test_each_pair_of_states_has_its_transition(
    before: ReferenceState | None, after: ReferenceState | None, transition: Transition
) -> None:
    assert decide(before, after) is transition


@each_case
def test_changed_is_whether_the_store_changes(
    before: ReferenceState | None, after: ReferenceState | None, transition: Transition
) -> None:
    assert transition.changed == (before != after)


@each_case
def test_a_pin_is_added_only_if_there_was_none(
    before: ReferenceState | None, after: ReferenceState | None, transition: Transition
) -> None:
    pinned_before, pinned_after = bool(before and before.pinned), bool(after and after.pinned)
    assert changed(before, after).pins == (pinned_after and not pinned_before)


@each_case
def test_a_pin_is_removed_only_from_a_remaining_reference(
    before: ReferenceState | None, after: ReferenceState | None, transition: Transition
) -> None:
    assert changed(before, after).unpins == bool(before and before.pinned and after and not after.pinned)


@each_case
def test_the_history_has_an_event_for_every_change(
    before: ReferenceState | None, after: ReferenceState | None, transition: Transition
) -> None:
    assert changed(before, after).event == (transition.value if transition.changed else None)


def test_another_size_is_not_a_change() -> None:
    observed = ObservedImage(A, "", 99, b"", "target", pinned=False)
    assert change_to("busybox", ReferenceState(A, pinned=False), observed).transition is Transition.UNCHANGED


def test_the_state_after_has_the_target_and_the_manifest() -> None:
    observed = ObservedImage(A, "", 99, b"", "target", pinned=True, manifest_digest="manifest")
    change = change_to("busybox", None, observed)
    assert change.after == ReferenceState(A, True, "target", "manifest")
    assert change.target_digest == "target"


def test_a_vanished_reference_has_no_target() -> None:
    change = change_to("busybox", ReferenceState(A, False, "target"), None)
    assert (change.after, change.target_digest, change.image) == (None, None, None)


def test_another_target_with_the_same_image_is_retargeted_only_in_the_history() -> None:
    before, after = ReferenceState(A, False, "old", PLATFORM), ReferenceState(A, False, "new", PLATFORM)
    change = changed(before, after)
    assert (change.transition, change.event) == (Transition.UNCHANGED, "retargeted")


@pytest.mark.parametrize(
    "before", [ReferenceState(A, False, "same", PLATFORM), ReferenceState(A, pinned=False)]
)
def test_a_first_or_equal_target_is_not_an_event(before: ReferenceState) -> None:
    assert changed(before, ReferenceState(A, False, "same", PLATFORM)).event is None


def test_a_local_move_differs_from_one_at_the_source() -> None:
    before = ReferenceState(A, False, "old", PLATFORM)
    assert changed(before, ReferenceState(B, pinned=False)).moved_locally
    assert not changed(before, ReferenceState(B, False, "new", PLATFORM)).moved_locally
    assert not changed(before, ReferenceState(A, pinned=True)).moved_locally

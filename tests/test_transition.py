"""The five cases of an update, decided without a file."""

from __future__ import annotations

import pytest

from imagekeep import Observed
from imagekeep.transition import Change, State, Transition, change_to, decide
from tests.model import IMAGES

A, B = (image.id for image in IMAGES[:2])
PLATFORM = "linux/amd64"

CASES = [
    (None, None, Transition.ABSENT),
    (State(A, pinned=False), None, Transition.VANISHED),
    (State(A, pinned=True), None, Transition.VANISHED),
    (None, State(A, pinned=False), Transition.NEW),
    (None, State(A, pinned=True), Transition.NEW),
    (State(A, pinned=False), State(A, pinned=False), Transition.UNCHANGED),
    (State(A, pinned=True), State(A, pinned=True), Transition.UNCHANGED),
    (State(A, pinned=False), State(A, pinned=True), Transition.PINNED),
    (State(A, pinned=True), State(A, pinned=False), Transition.UNPINNED),
    (State(A, pinned=True), State(B, pinned=True), Transition.MOVED),
    (State(A, pinned=True), State(B, pinned=False), Transition.MOVED),
    (State(A, pinned=False), State(B, pinned=True), Transition.MOVED),
    (State(A, pinned=False), State(B, pinned=False), Transition.MOVED),
]
each_case = pytest.mark.parametrize(("before", "after", "transition"), CASES)


def changed(before: State | None, after: State | None) -> Change:
    return Change("busybox", decide(before, after), before, after)


@each_case
def test_each_pair_of_states_has_its_transition(
    before: State | None, after: State | None, transition: Transition
) -> None:
    assert decide(before, after) is transition


@each_case
def test_only_what_makes_the_store_say_something_else_is_a_change(
    before: State | None, after: State | None, transition: Transition
) -> None:
    assert transition.changed == (before != after)


@each_case
def test_a_pin_begins_only_where_there_was_none(
    before: State | None, after: State | None, transition: Transition
) -> None:
    pinned_before, pinned_after = bool(before and before.pinned), bool(after and after.pinned)
    assert changed(before, after).pins == (pinned_after and not pinned_before)


@each_case
def test_a_pin_is_taken_only_from_a_reference_that_stays(
    before: State | None, after: State | None, transition: Transition
) -> None:
    assert changed(before, after).unpins == bool(before and before.pinned and after and not after.pinned)


@each_case
def test_the_history_has_an_event_for_every_change(
    before: State | None, after: State | None, transition: Transition
) -> None:
    assert changed(before, after).event == (transition.value if transition.changed else None)


def test_another_size_is_no_change() -> None:
    observed = Observed(A, "", 99, b"", "target", pinned=False)
    assert change_to("busybox", State(A, pinned=False), observed, PLATFORM).transition is Transition.UNCHANGED


def test_the_state_after_has_the_target_and_the_platform() -> None:
    observed = Observed(A, "", 99, b"", "target", pinned=True)
    change = change_to("busybox", None, observed, PLATFORM)
    assert change.after == State(A, True, "target", PLATFORM)
    assert change.target_digest == "target"


def test_a_vanished_reference_has_no_target() -> None:
    change = change_to("busybox", State(A, False, "target", PLATFORM), None, PLATFORM)
    assert (change.after, change.target_digest, change.image) == (None, None, None)


def test_another_target_with_the_same_image_is_retargeted_in_the_history_alone() -> None:
    before, after = State(A, False, "old", PLATFORM), State(A, False, "new", PLATFORM)
    change = changed(before, after)
    assert (change.transition, change.event) == (Transition.UNCHANGED, "retargeted")


@pytest.mark.parametrize("before", [State(A, False, "same", PLATFORM), State(A, pinned=False)])
def test_the_first_or_the_same_target_is_no_event(before: State) -> None:
    assert changed(before, State(A, False, "same", PLATFORM)).event is None


def test_a_move_without_a_source_is_told_from_one_that_a_source_said() -> None:
    before = State(A, False, "old", PLATFORM)
    assert changed(before, State(B, pinned=False)).moves_unasked
    assert not changed(before, State(B, False, "new", PLATFORM)).moves_unasked
    assert not changed(before, State(A, pinned=True)).moves_unasked

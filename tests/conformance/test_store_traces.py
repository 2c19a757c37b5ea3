"""Every step of every recorded trace of containerd's store, on a real file: the same answers, the same state.

Each trace runs three times: on one store; on one that is closed and opened again between every two steps; and
on two stores of two processes, which take turns.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.conformance.answers import NOTHING, looking_into, perform, recorded_state, state_of
from tests.conformance.departures import READING, Departure, departures
from tests.conformance.holders import MODES, Holder
from tests.conformance.traces import traces
from tests.tally import count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.conformance.answers import Operation

    Count = pytest.FixtureRequest

REGULAR = [pytest.param(operations, id=name) for name, operations in traces("regular")]
LOOSE = [pytest.param(operations, id=name) for name, operations in traces("loose")]
EACH_MODE = pytest.mark.parametrize("holder", MODES, indirect=True)


@EACH_MODE
@pytest.mark.parametrize("operations", REGULAR)
def test_a_regular_trace_agrees_in_full(
    operations: Sequence[Operation], holder: Holder, volatile_path: Path, request: Count
) -> None:
    excluded = agree(operations, holder, volatile_path, request, "regular")
    assert set(excluded.values()) <= {Departure.EMPTY_ID}
    assert {operations[number]["op"] for number in excluded} <= {"get"}


@EACH_MODE
@pytest.mark.parametrize("operations", LOOSE)
def test_a_loose_trace_agrees_up_to_its_first_departure(
    operations: Sequence[Operation], holder: Holder, volatile_path: Path, request: Count
) -> None:
    agree(operations, holder, volatile_path, request, "loose")


def agree(
    operations: Sequence[Operation], holder: Holder, path: Path, request: Count, kind: str
) -> dict[int, Departure]:
    """Assert the answer and the state after each step that no departure excludes; return those that one does."""
    excluded = dict(departures(operations))
    state, done = NOTHING, 0
    with looking_into(path) as connection:
        holder.open(path)
        for number, operation in enumerate(operations):
            if number in excluded:
                if operation["op"] in READING:
                    continue
                break
            answer = holder.ask(perform, operation)
            assert answer == (operation["class"], operation.get("result")), (number, operation)
            state = recorded_state(operation, state)
            assert state_of(connection) == state, (number, operation)
            done += 1
    count(request, f"{kind} traces, {holder.mode}: steps that agree", done)
    count(request, f"{kind} traces, {holder.mode}: steps left out", len(operations) - done)
    for departure, times in Counter(excluded.values()).items():
        count(request, f"{kind} traces, {holder.mode}: left out, or ended, as {departure}", times)
    return excluded

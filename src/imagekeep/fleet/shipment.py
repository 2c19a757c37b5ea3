"""Ships a store's changes to the centre.

One shipment: greet the centre, which answers how far it has come (hello_v1); go on from there if the store's
history still has the very row that it took last (receive_v1); otherwise send the whole state, as a new epoch
(snapshot_v1). Once an hour, and after a snapshot, both sides compare a hash of the state (hash_v1). Each call
is one transaction, and the centre takes it only at the cursor that it names, so a lost answer, a repeat or a
second store cannot apply anything twice: the next greeting tells where to go on.

Nothing is kept on the node: the history is the buffer, for as long as the centre is away.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagekeep import internals
from imagekeep.database.feed import Page, read_page, read_state
from imagekeep.database.revision import HEAD
from imagekeep.errors import CentreFaultError, CursorMovedError, ImagekeepError
from imagekeep.fleet.centre import Greeting, Position
from imagekeep.fleet.wire import (
    facts_of,
    history_columns,
    incomplete_columns,
    incomplete_hash,
    state_columns,
    state_hash,
)
from imagekeep.reader import ask
from imagekeep.times import current_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from imagekeep.database.feed import Cursor, State
    from imagekeep.fleet.centre import Centre
    from imagekeep.fleet.wire import Facts
    from imagekeep.reader import Reader

ROWS_PER_CALL = 500
"""Rows of the history in one call; the centre takes no more."""

FACTS_PER_CALL = 50

TRIES = 4
"""Times that a shipment starts over: the store may change, and another store may ship, meanwhile."""


class Reason(enum.StrEnum):
    """Why the whole state is sent."""

    NEW = "new"
    RESTORED = "restored"
    REINSTALLED = "reinstalled"
    GAP = "gap"
    HASH = "hash"


@dataclass(slots=True)
class Shipment:
    """What a shipment did: where the centre is now, the rows it took, and the snapshots it needed."""

    epoch: int = 0
    sequence: int = 0
    rows: int = 0
    snapshots: list[Reason] = field(default_factory=list)
    compared: bool = False
    wanted: set[str] = field(default_factory=set)


def decide(page: Page, at: Position) -> Reason | None:
    """Return why rows cannot simply follow the centre's cursor, or None if they can."""
    if at.epoch == 0:
        return Reason.NEW
    if page.store_id != at.store_id:
        same_beginning = at.origin is not None and page.origin == at.origin
        return Reason.RESTORED if same_beginning else Reason.REINSTALLED
    if page.here is None:  # a history can be cut, which leaves newer rows
        return Reason.GAP if page.newest > at.cursor.sequence else Reason.RESTORED
    if page.here != at.cursor:
        return Reason.RESTORED
    expected = range(at.cursor.sequence + 1, at.cursor.sequence + 1 + len(page.rows))
    return None if [row.sequence for row in page.rows] == list(expected) else Reason.GAP


def ship(reader: Reader, centre: Centre, version: str) -> Shipment:
    """Bring the centre up to the store's newest change, once.

    Raises CentreUnavailableError, CentreRefusedError, CentreVersionError, PermissionDeniedError, CentreFaultError,
    and the store's errors. Whatever is raised, the centre has whole calls only, and the next shipment goes on.
    """
    done = Shipment()
    for attempt in range(TRIES):
        try:
            _ship_once(reader, centre, version, done)
        except CursorMovedError:
            if attempt + 1 == TRIES:
                raise
        else:
            break
    _send_facts(reader, centre, done.wanted)
    return done


def _ship_once(reader: Reader, centre: Centre, version: str, done: Shipment) -> None:
    at = centre.hello(_greeting(reader, version))
    at = _catch_up(reader, centre, at, done)
    if at.hash_due or done.snapshots:
        at = _compare(reader, centre, at, done)
    _send_incomplete(reader, centre, at)
    done.epoch, done.sequence = at.epoch, at.cursor.sequence


def _greeting(reader: Reader, version: str) -> Greeting:
    newest, store_id = internals.feed_end(reader)
    watcher, counts = reader.watcher(), reader.counts()
    return Greeting(
        version,
        HEAD,
        store_id,
        current_time(),
        newest,
        watcher.connected_at if watcher else None,
        counts.oldest_verified_at,
    )


def _catch_up(reader: Reader, centre: Centre, at: Position, done: Shipment) -> Position:
    """Send every row that the centre lacks, or the whole state; return its new position."""
    while True:
        page = _page(reader, at)
        if reason := decide(page, at):
            at = _send_state(reader, centre, at, reason, done)
            continue
        if not page.rows:
            return at
        at = _send_rows(centre, at, page, done)
        if at.cursor.sequence == page.newest:
            return at


def _page(reader: Reader, at: Position) -> Page:
    origin = at.origin.sequence if at.origin else 0
    return ask(reader, read_page, at.cursor.sequence, origin, ROWS_PER_CALL)


def _send_rows(centre: Centre, at: Position, page: Page, done: Shipment) -> Position:
    last = page.rows[-1].cursor
    more = last.sequence < page.newest
    done.wanted.update(centre.receive(at.epoch, at.cursor, last, *history_columns(page.rows), more=more))
    done.rows += len(page.rows)
    return at._replace(cursor=last)


def _send_state(reader: Reader, centre: Centre, at: Position, reason: Reason, done: Shipment) -> Position:
    state: State = ask(reader, read_state)
    ends = state.newest, state.oldest
    epoch, wanted = centre.snapshot(at, reason, state.store_id, ends, *state_columns(state.rows))
    done.snapshots.append(reason)
    done.wanted.update(wanted)
    origin: Cursor | None = state.oldest if state.oldest.sequence else None
    return at._replace(epoch=epoch, cursor=state.newest, store_id=state.store_id, origin=origin)


def _compare(reader: Reader, centre: Centre, at: Position, done: Shipment) -> Position:
    """Compare the states at one row, unless the store keeps changing; send the whole state if they differ."""
    for _ in range(TRIES):
        state: State = ask(reader, read_state)
        if (state.store_id, state.newest) != (at.store_id, at.cursor):
            at = _catch_up(reader, centre, at, done)
            continue
        equal, wanted = centre.is_equal(at.epoch, at.cursor, state_hash(state.rows))
        done.wanted.update(wanted)
        done.compared = equal
        if equal:
            return at
        if Reason.HASH in done.snapshots:
            raise CentreFaultError(f"{centre.place}: its state differs right after it was sent (restart it)")
        at = _send_state(reader, centre, at, Reason.HASH, done)
    return at


def _send_facts(reader: Reader, centre: Centre, wanted: Iterable[str]) -> None:
    """Send what the configs of these images say, of those that the store still has."""
    ordered = sorted(wanted)
    for start in range(0, len(ordered), FACTS_PER_CALL):
        found = [
            facts
            for image_id in ordered[start : start + FACTS_PER_CALL]
            if (facts := _facts(reader, image_id))
        ]
        if found:
            centre.send_facts(found)


def _facts(reader: Reader, image_id: str) -> Facts | None:
    try:
        image = reader.get(image_id)
        return facts_of(image.id, image.chain_id, image.config)
    except ImagekeepError:  # gone, or a config that cannot be read: the centre accepts that facts are unknown
        return None


def _send_incomplete(reader: Reader, centre: Centre, at: Position) -> None:
    columns: Sequence[Sequence[object]] = incomplete_columns(reader.incomplete())
    digest = incomplete_hash(columns)
    if digest != at.incomplete_hash and (at.incomplete_hash or columns[0]):
        centre.send_incomplete(digest, *columns)

"""What the package's own modules do with a Reader or a Store beyond the public API.

This module alone uses their private attributes. `sync`, `watch`, `diff` and the CRI import it; programs do not.
"""

from __future__ import annotations

import contextlib
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import status
from imagekeep.database.feed import newest_cursor
from imagekeep.database.lock import WatcherLock
from imagekeep.database.platforms import changes_to, drop_platforms, verified_states
from imagekeep.database.presence import write_look
from imagekeep.database.statements import SHRINK_MEMORY
from imagekeep.database.writes import (
    write_changes,
    write_image_filesystem,
    write_incomplete,
    write_source,
    write_watcher,
)
from imagekeep.errors import AlreadyWatchedError, SourceMismatchError, printable
from imagekeep.image import GONE, Observation, ObservedImage, require_image, require_storable
from imagekeep.observe import observe_target
from imagekeep.platform import ALL_PLATFORMS
from imagekeep.reader import ask
from imagekeep.reader_internals import (
    data_version as data_version,
)
from imagekeep.reader_internals import (
    image_filesystem as image_filesystem,
)
from imagekeep.reader_internals import (
    incarnation as incarnation,
)
from imagekeep.reader_internals import (
    local_resolve as local_resolve,
)
from imagekeep.reader_internals import (
    require_current_schema as require_current_schema,
)
from imagekeep.sources.protocol import identity_of
from imagekeep.times import timestamp
from imagekeep.transition import ReferenceChange, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from imagekeep.database.driver import sqlite
    from imagekeep.database.feed import Cursor
    from imagekeep.database.presence import Look
    from imagekeep.errors import ImagekeepError
    from imagekeep.identity import SourceIdentity
    from imagekeep.image import ImageRecord
    from imagekeep.observe import TargetReading
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.image_reader import SharedDocuments
    from imagekeep.reader import Reader
    from imagekeep.sources.protocol import Source
    from imagekeep.store import Store
    from imagekeep.transition import Transition
    from imagekeep.watcher_status import FilesystemUsage, WatcherState

    StatusUpdate = Callable[[Mapping[str, Transition], Mapping[str, ImagekeepError]], WatcherState]

_NO_FAILURES: Mapping[str, ImagekeepError] = MappingProxyType({})


class Alongside(NamedTuple):
    """What is written in the same transactions as a sync's changes, if there are any.

    With `follow` the store remembers its source, and SourceMismatchError is raised if it follows another one,
    unless `replace_source` is set. `status` returns the watcher's status after these transitions and failures.
    `look` is what the source was seen to have.
    """

    follow: bool = False
    replace_source: bool = False
    status: StatusUpdate | None = None
    look: Look | None = None


NOTHING = Alongside()


def feed_end(reader: Reader) -> tuple[Cursor, str]:
    """Return the newest row of the history, and the store's id."""
    return ask(reader, lambda cursor: (newest_cursor(cursor), status.identity(cursor).store_id))


def record_image_filesystem(store: Store, usage: FilesystemUsage) -> None:
    """Record what the source reports about the filesystem of its images."""
    with store._transaction() as cursor:
        write_image_filesystem(cursor, usage)


def write(store: Store) -> AbstractContextManager[sqlite.Cursor]:
    """Return the context of a write transaction, which is on disk when it ends."""
    return store._transaction()


def release_memory(store: Store) -> None:
    """Free the pages that writing has cached, two megabytes (SQLite: PRAGMA shrink_memory); writes nothing."""
    with store._transaction(dry_run=True) as cursor:
        cursor.execute(SHRINK_MEMORY)


def record_watcher(store: Store, state: WatcherState) -> None:
    """Record the watcher's status."""
    with store._transaction() as cursor:
        write_watcher(cursor, state)


@contextlib.contextmanager
def watcher_lock(store: Store) -> Iterator[Callable[[], None]]:
    """Be the one watcher of a store until the context ends, or the process does.

    Yields a function that takes the lock again, in case the store and its lock file were deleted and recreated.
    Both raise AlreadyWatchedError, naming the other watcher, and StoreUnavailableError.
    """
    lock = WatcherLock(store.path)

    def take() -> None:
        try:
            lock.take()
        except AlreadyWatchedError as error:
            other = store.watcher()
            who = f"process {other.process_id}, source {printable(other.source)}" if other else "another"
            raise AlreadyWatchedError(
                f"store {printable(store.path)}: already watched ({who}); stop that watcher first"
            ) from error

    take()
    try:
        yield take
    finally:
        lock.release()


def require_source(store: Store) -> Source:
    """Return a store's source; raises FailedPreconditionError if it was opened without one."""
    return store._require_source()


def lock_references(store: Store, references: Iterable[str] | None) -> AbstractContextManager[None]:
    """Lock these references, or all if None, against other updates until the context ends.

    What is observed and applied inside is never overwritten by an older answer. Readers do not wait. Raises
    InvalidReferenceError, and StoreBusyError after a minute.
    """
    return store._lock(references)


def platforms_of(store: Store) -> Sequence[str]:
    """Return the platforms that a store updates, the first one first."""
    return store._platform_names()


def observe(
    store: Store,
    target: Descriptor,
    shared: SharedDocuments | None = None,
    listed: Container[str] = (),
    platforms: Sequence[str] = (),
) -> TargetReading:
    """Read a target at the source for the store's platforms; raises as `observe_target` and `require_image` do.

    `listed` has blobs that the source is known to have; `platforms` spares asking for those of the store.
    """
    source = require_source(store)
    reading = observe_target(target, source, platforms or platforms_of(store), shared)
    require_image(reading.images)
    return reading.with_presence(source, listed)


def apply_observations(
    store: Store, observed: Mapping[str, Observation | ObservedImage | None]
) -> dict[str, dict[str, Transition]]:
    """Update references to what was observed, in one transaction; return each one's transition by platform.

    An image stands for the store's first platform; None deletes the reference.
    """
    names = store._platform_names()
    observations = _observations(names[0], observed)
    with store._transaction() as cursor:
        changes = changes_to(cursor, names, observations)
        write_changes(cursor, changes, timestamp())
    transitions: dict[str, dict[str, Transition]] = {name: {} for name in observed}
    for change in changes:
        transitions[change.reference][change.platform.name or ""] = change.transition
    return transitions


def _observations(
    first: str, observed: Mapping[str, Observation | ObservedImage | None]
) -> dict[str, Observation]:
    """Return observations that a store can keep; raises as `require_storable` does."""
    found = {reference: _as_observation(first, said) for reference, said in observed.items()}
    for reference, observation in found.items():
        require_storable(reference, None)
        for image in observation.images.values():
            if isinstance(image, ObservedImage):
                require_storable(reference, image)
    return found


def _as_observation(first: str, said: Observation | ObservedImage | None) -> Observation:
    if said is None:
        return GONE
    return Observation({first: said}, (first,)) if isinstance(said, ObservedImage) else said


def droppable_platforms(store: Store) -> dict[str, int]:
    """Return the platforms that a store keeps besides those it was opened with, and the references of each.

    ALL_PLATFORMS, which has no references of its own, is among them for a store that keeps every platform.
    """
    names = store._platform_names()
    others = [name for name in store.kept_platforms() if name not in names and ALL_PLATFORMS not in names]
    return {name: 0 if name == ALL_PLATFORMS else len(store.references(name)) for name in others}


def drop_other_platforms(store: Store) -> None:
    """Keep images only for the platforms that the store was opened with."""
    with store._transaction() as cursor:
        drop_platforms(cursor, store._platform_names(), timestamp())


def apply_all(
    store: Store,
    observed: Mapping[str, Observation | ObservedImage | None],
    *,
    failures: Mapping[str, ImagekeepError] = _NO_FAILURES,
    alongside: Alongside = NOTHING,
    dry_run: bool = False,
) -> dict[str, Transition]:
    """Update many references to what was observed, in one transaction; return what `Store.update` would.

    `failures` has the errors of references that could not be read; they are recorded as incomplete until they can
    be read or are gone. With `dry_run` the transaction is rolled back.
    """
    names = store._platform_names()
    observations = _observations(names[0], observed)
    with store._transaction(dry_run=dry_run) as cursor:
        changes = changes_to(cursor, names, observations)
        return _write(store, cursor, changes, failures, alongside)


def mark_verified(
    store: Store,
    records: Collection[ImageRecord],
    *,
    alongside: Alongside = NOTHING,
    dry_run: bool = False,
) -> dict[str, Transition]:
    """Verify, in one transaction, the references whose target the store has read before.

    A target's digest covers everything beneath it, so only a pin can have changed. Returns their transitions; the
    other references have to be observed. `dry_run` as in `apply_all`.
    """
    targets = {record.reference: record.target.digest for record in records}
    with store._transaction(dry_run=dry_run) as cursor:
        changes = [
            ReferenceChange(record.reference, decide(before, after), before, after, platform=platform)
            for platform, states in verified_states(cursor, store._platform_names(), targets)
            for record in records
            if (before := states.get(record.reference))
            for after in [before.with_pin(record.pinned)]
        ]
        return _write(store, cursor, changes, _NO_FAILURES, alongside)


def _write(
    store: Store,
    cursor: sqlite.Cursor,
    changes: Sequence[ReferenceChange],
    failures: Mapping[str, ImagekeepError],
    alongside: Alongside,
) -> dict[str, Transition]:
    """Write changes and what belongs to them; return each reference's transition.

    It is that of the first platform for which something changed, else of the first.
    """
    now = timestamp()
    write_changes(cursor, changes, now)
    transitions: dict[str, Transition] = {}
    for change in changes:
        known = transitions.setdefault(change.reference, change.transition)
        if change.transition.changed and not known.changed:
            transitions[change.reference] = change.transition
    if failures:
        write_incomplete(cursor, failures, now)
    if alongside.look and (changes or alongside.look.differs):
        write_look(cursor, alongside.look, now)
    if changes or failures:
        if alongside.follow:
            _follow(store, cursor, replace=alongside.replace_source)
        if alongside.status:
            write_watcher(cursor, alongside.status(transitions, failures))
    return transitions


def require_same_source(store: Store) -> None:
    """Raise SourceMismatchError if a store follows another source than the one it was opened with.

    A source without an identity is never refused, nor is any by a store that has not been synced yet.
    """
    source, follows = _identity_of_source(store), store.identity().follows
    if source is not None and follows is not None:
        _require_same(store, source, follows)


def follows_its_source(store: Store) -> bool:
    """Return whether `require_same_source` accepts the store's source."""
    source, follows = _identity_of_source(store), store.identity().follows
    return source is None or follows is None or source.is_same(follows)


def remember_source(store: Store, *, replace: bool = False) -> None:
    """Remember which source a store follows; raises SourceMismatchError for another one unless `replace`."""
    source, follows = _identity_of_source(store), store.identity().follows
    if source is not None and (follows is None or not source.is_same(follows)):
        with store._transaction() as cursor:
            _follow(store, cursor, replace=replace)


def _follow(store: Store, cursor: sqlite.Cursor, *, replace: bool) -> None:
    source, follows = _identity_of_source(store), status.identity(cursor).follows
    if source is None:
        return
    if follows is not None and not replace:
        _require_same(store, source, follows)
    if follows is None or not source.is_same(follows):
        write_source(cursor, source)


def _require_same(store: Store, source: SourceIdentity, follows: SourceIdentity) -> None:
    if not source.is_same(follows):
        raise SourceMismatchError(
            f"store {printable(store.path)}: follows {printable(follows)}, not {printable(source)} (use that "
            "source, another store, or `sync --replace-source`)"
        )


def _identity_of_source(store: Store) -> SourceIdentity | None:
    return None if store.source is None else identity_of(store.source)

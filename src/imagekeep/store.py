"""The image store: containerd's, in SQLite (internal/cri/store/image/image.go).

A store reads as `Reader` does, and writes in transactions that only this module opens. `update` is two steps::

    observed = store.observe(reference)     reads the source; no transaction is open, nobody waits
    store.apply(reference, observed)        decides (imagekeep.transition) and writes, in one transaction

held together by a lock on the reference, so that of two updates the one that asked the source later is the one
whose answer stays. If anything fails, nothing has changed.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from imagekeep.database import queries
from imagekeep.database.create import open_or_create
from imagekeep.database.kept import Guard, KeptConnection, write_transaction
from imagekeep.database.lock import WatcherLock, lock_references
from imagekeep.database.writes import (
    write_changes,
    write_image_filesystem,
    write_incomplete,
    write_source,
    write_watcher,
)
from imagekeep.digest import validate
from imagekeep.errors import (
    AlreadyWatchedError,
    AmbiguousError,
    FailedPreconditionError,
    ImagekeepError,
    ImageNotFoundError,
    InvalidArgumentError,
    PinNeedsReferenceError,
    SourceMismatchError,
    printable,
)
from imagekeep.image import ObservedImage, observed_of
from imagekeep.oci.image import read_image
from imagekeep.paths import store_path
from imagekeep.platform import Platform, only
from imagekeep.reader import Reader
from imagekeep.reference import check_name
from imagekeep.sources.protocol import identity_of
from imagekeep.sources.specifier import open_source
from imagekeep.sync import NOTHING, Alongside, SyncReport, sync
from imagekeep.transition import ReferenceChange, ReferenceState, Transition, change_to, decide
from imagekeep.watcher_status import timestamp

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from imagekeep.database.driver import sqlite
    from imagekeep.identity import SourceIdentity
    from imagekeep.image import Image, ImageRecord
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.image import ImageFacts
    from imagekeep.oci.image_reader import SharedDocuments
    from imagekeep.sources.protocol import Source
    from imagekeep.watcher_status import FilesystemUsage, WatcherState

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class Store(Reader):
    """Keeps images in one SQLite file; opened by `Store.open`.

    `source` is where images really are, and `platform` is what they must run on; `update` needs the one and
    chooses by the other. Like a Reader, it may be used from any number of threads and in forked children, and its
    file must not be opened with another SQLite library in the same process. If the file is moved, replaced or
    deleted, nothing more is written to it: what is at the path is opened instead, or StoreUnavailableError raised.
    """

    def __init__(self, path: Path, source: Source | None, platform: Platform) -> None:
        super().__init__(path)
        self.source = source
        self.platform = platform
        self._matcher = only(platform)
        self._wanted = platform.format_all()
        self._writer = KeptConnection(path, self._connections.owner, writes=True)
        self._writer_guard = Guard(self._writer)
        self._owns_source = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        source: Source | str | None = None,
        platform: Platform | str | None = None,
    ) -> Self:
        """Open the store at `path`, making the file (mode 0600) where there is none.

        A relative path stays that file where the process changes its directory. `source` may be a specifier, such
        as `oci:DIRECTORY`: the store then closes the source with itself. `platform` is the host's own unless it is
        given, as a specifier or parsed. Raises InvalidArgumentError for SQLite's `:memory:` and URIs,
        SchemaVersionError for an older or newer schema, NotAStoreError for another file, PermissionDeniedError,
        StoreUnavailableError, and as `open_source` does.
        """
        wanted = Platform.parse(platform) if isinstance(platform, str) else platform or Platform.host()
        store = cls(store_path(path), open_source(source) if isinstance(source, str) else source, wanted)
        store._owns_source = isinstance(source, str)
        open_or_create(Path(path))
        return store

    def close(self) -> None:
        """Close the connections of every thread, and a source that was given as a specifier."""
        super().close()
        if self._owns_source and self.source is not None:
            self.source.close()

    def sync(
        self,
        references: Iterable[str] | None = None,
        *,
        verify: bool = False,
        dry_run: bool = False,
        replace_source: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> SyncReport:
        """Update the store from its source: these references, or all; see `imagekeep.sync.sync`."""
        return sync(
            self,
            references,
            verify=verify,
            dry_run=dry_run,
            replace_source=replace_source,
            progress=progress,
        )

    def update(self, reference: str) -> Transition:
        """Ask the source what `reference` is now, and make the store say the same (containerd: Store.Update).

        Raises InvalidReferenceError for what cannot be a name, whatever the source raises, the errors of reading
        documents (with `reference` and `stage` set), StoreBusyError, StoreUnavailableError. The store then says
        what it said before.
        """
        with self.lock_references([reference]):
            return self.apply(reference, self.observe(reference))

    def lock_references(self, references: Iterable[str] | None) -> AbstractContextManager[None]:
        """Keep others from updating these references, or any at all, until the context ends.

        What is observed and applied inside is never overtaken by an older answer. Readers do not wait. Raises
        InvalidReferenceError, and StoreBusyError when others hold one of them for more than a minute.
        """
        names = None if references is None else list(references)
        for name in names or ():
            check_name(name)
        return lock_references(self.path, names)

    def observe(self, reference: str) -> ObservedImage | None:
        """Read what `reference` is at the source now: the image for the platform, or None where it is gone.

        Raises as `update` does; nothing of the store is read or written.
        """
        try:
            record = self.require_source().get(reference)
        except ImageNotFoundError:
            return None
        try:
            return observed_of(record, self.read_image(record.target))
        except ImagekeepError as error:
            error.reference = reference
            raise

    def read_image(self, target: Descriptor, shared: SharedDocuments | None = None) -> ImageFacts:
        """Read the image for the store's platform beneath a target at the source; raises as `update` does.

        Images read with the same `shared` share its limits.
        """
        return read_image(target, self.require_source(), self._matcher, shared)

    def record_watcher(self, state: WatcherState) -> None:
        """Note how far the watcher of the source has come."""
        with self._transaction() as cursor:
            write_watcher(cursor, state)

    def record_image_filesystem(self, usage: FilesystemUsage) -> None:
        """Record what the source reports about the filesystem of its images."""
        with self._transaction() as cursor:
            write_image_filesystem(cursor, usage)

    @contextlib.contextmanager
    def watcher_lock(self) -> Iterator[Callable[[], None]]:
        """Be the one watcher of this store until the context ends, or the process does.

        Yields what takes the lock again, in case the store was deleted and made anew with its lock file. Both raise
        AlreadyWatchedError, naming the other watcher, and StoreUnavailableError.
        """
        lock = WatcherLock(self.path)

        def take() -> None:
            try:
                lock.take()
            except AlreadyWatchedError as error:
                other = self.watcher()
                who = f"process {other.process_id}, source {printable(other.source)}" if other else "another"
                raise AlreadyWatchedError(
                    f"store {printable(self.path)}: already watched ({who}); stop that watcher first"
                ) from error

        take()
        try:
            yield take
        finally:
            lock.release()

    def require_same_source(self) -> None:
        """Raise SourceMismatchError if the store follows another source than the one it was opened with.

        A source without an identity is never refused, nor is any by a store that has not been synced yet.
        """
        _require_same_source(self.path, self.identity().follows, self._source_identity())

    def _source_identity(self) -> SourceIdentity | None:
        return None if self.source is None else identity_of(self.source)

    def require_source(self) -> Source:
        """Return the source, or raise FailedPreconditionError where the store was opened without one."""
        if self.source is None:
            raise FailedPreconditionError(f"store {printable(self.path)}: opened without a source to ask")
        return self.source

    def apply(self, reference: str, observed: ObservedImage | None) -> Transition:
        """Make the store say of one reference what was observed; None is a reference that is gone.

        Raises InvalidReferenceError or InvalidDigestError, and as `update` does for the file.
        """
        return self.apply_all({reference: observed})[reference]

    def apply_all(
        self,
        observed: Mapping[str, ObservedImage | None],
        *,
        failures: Mapping[str, ImagekeepError] | None = None,
        alongside: Alongside = NOTHING,
        dry_run: bool = False,
    ) -> dict[str, Transition]:
        """Write what was observed of many references in one transaction: all of it, or nothing.

        `failures` has the references that could not be read, and why: they are kept as incomplete until they can
        be read or are gone. With `dry_run` everything is decided and written, and then rolled back.
        """
        for reference, image in observed.items():
            _check(reference, image)

        with self._transaction(dry_run=dry_run) as cursor:
            before = queries.states_of(cursor, observed)
            return self._write(
                cursor,
                [
                    change_to(reference, before.get(reference), image, self._wanted)
                    for reference, image in observed.items()
                ],
                failures or {},
                alongside,
            )

    def mark_verified(
        self,
        records: Collection[ImageRecord],
        *,
        alongside: Alongside = NOTHING,
        dry_run: bool = False,
    ) -> dict[str, Transition]:
        """Note, in one transaction, which records point at the target that the store has read before.

        A digest fixes all that is beneath it, so no document is read for these; only their pins can have
        changed. A reference that is missing in the answer has to be observed. `dry_run` as in `apply_all`.
        """
        with self._transaction(dry_run=dry_run) as cursor:
            states = queries.states_of(cursor, [record.reference for record in records])
            return self._write(
                cursor,
                [
                    ReferenceChange(record.reference, decide(before, after), before, after)
                    for record in records
                    if (before := states.get(record.reference)) and self.is_current(before, record)
                    for after in [before.with_pin(record.pinned)]
                ],
                alongside=alongside,
            )

    def remember_source(self, *, replace: bool = False) -> None:
        """Remember which source the store follows; raises SourceMismatchError for another one unless `replace`."""
        source, follows = self._source_identity(), self.identity().follows
        if source is not None and (follows is None or not source.is_same(follows)):
            with self._transaction() as cursor:
                self._follow(cursor, replace=replace)

    def _follow(self, cursor: sqlite.Cursor, *, replace: bool) -> None:
        """Remember the source, or raise SourceMismatchError if the store follows another one."""
        source, follows = self._source_identity(), queries.identity(cursor).follows
        if not replace:
            _require_same_source(self.path, follows, source)
        if source is not None and (follows is None or not source.is_same(follows)):
            write_source(cursor, source)

    def _write(
        self,
        cursor: sqlite.Cursor,
        changes: Sequence[ReferenceChange],
        failures: Mapping[str, ImagekeepError] = MappingProxyType({}),
        alongside: Alongside = NOTHING,
    ) -> dict[str, Transition]:
        """Write changes, and what belongs beside them if there are any; return what each was to its reference."""
        transitions = _write(cursor, changes)
        if failures:
            write_incomplete(cursor, failures, timestamp())
        if changes or failures:
            if alongside.follow:
                self._follow(cursor, replace=alongside.replace_source)
            if alongside.status:
                write_watcher(cursor, alongside.status(transitions, failures))
        return transitions

    def is_current(self, state: ReferenceState, record: ImageRecord) -> bool:
        """Return whether the store has read the image beneath this record's target, for its platform."""
        return (state.target_digest, state.platform) == (record.target.digest, self._wanted)

    def add(self, image: Image) -> None:
        """Add an image, or its references to an image that is known; a pinned one is pinned by all of them.

        What is known keeps its size, chain id and config, and its pins (containerd: store.add). A reference of
        another image moves to this one. Only the store changes, and the next sync undoes it unless the source has
        the image too. Raises InvalidArgumentError for an image without references.
        """
        if not image.references:
            raise InvalidArgumentError(f"image {printable(image.id)}: an image has at least one reference")
        facts = ObservedImage(image.id, image.chain_id, image.size, image.config_json, None, image.pinned)
        for reference in image.references:
            _check(reference, facts)
        with self._transaction() as cursor:
            changes = []
            for reference in dict.fromkeys(image.references):
                before = queries.state_of(cursor, reference)
                keeps_pin = before is not None and before.image_id == image.id and before.pinned
                after = ReferenceState(image.id, image.pinned or keeps_pin)
                changes.append(ReferenceChange(reference, decide(before, after), before, after, facts))
            _write(cursor, changes)

    def delete(self, image_id: str, reference: str) -> bool:
        """Delete `reference` of the image with this full or truncated id; return whether it was there.

        The image is deleted with its last reference. An unknown or ambiguous id deletes nothing (containerd:
        store.delete). Only the store changes, and the next sync undoes it; `imagekeep image rm` deletes at the
        source. Raises InvalidArgumentError for the empty id.
        """
        with self._transaction() as cursor:
            try:
                found = queries.find_id(cursor, image_id)
            except (ImageNotFoundError, AmbiguousError):
                return False
            before = queries.state_of(cursor, reference)
            if before is None or before.image_id != found:
                return False
            _write(cursor, [change_to(reference, before, None, self._wanted)])
            return True

    def pin(self, image_id: str, reference: str) -> None:
        """Let `reference` pin the image with this full or truncated id (containerd: store.pin).

        Only the store changes, and the next sync undoes it; `imagekeep image pin` pins at the source. Raises
        PinNeedsReferenceError if the image has no such reference, and as `get` does for the id.
        """
        self._set_pin(image_id, reference, pinned=True)

    def unpin(self, image_id: str, reference: str) -> None:
        """Let `reference` no longer pin the image (containerd: store.unpin); without a pin nothing changes.

        Only the store changes, and the next sync undoes it; `imagekeep image unpin` unpins at the source. Raises
        as `get` does for the id.
        """
        self._set_pin(image_id, reference, pinned=False)

    def _set_pin(self, image_id: str, reference: str, *, pinned: bool) -> None:
        with self._transaction() as cursor:
            found = queries.find_id(cursor, image_id)
            before = queries.state_of(cursor, reference)
            if before is not None and before.image_id == found:
                after = ReferenceState(found, pinned)
                _write(cursor, [ReferenceChange(reference, decide(before, after), before, after)])
            elif pinned:
                raise PinNeedsReferenceError(
                    f"image {found} has no reference {printable(reference)} to pin it"
                )

    @contextlib.contextmanager
    def _transaction(self, *, dry_run: bool = False) -> Iterator[sqlite.Cursor]:
        """Yield a cursor in a write transaction; what the caller returns from inside is on disk when it returns."""
        self._connections.require_open()
        with write_transaction(self._writer, dry_run=dry_run) as cursor:
            self._connections.require_open()
            yield cursor


def _write(cursor: sqlite.Cursor, changes: Sequence[ReferenceChange]) -> dict[str, Transition]:
    """Write changes; return what each was to its reference."""
    write_changes(cursor, changes, timestamp())
    return {change.reference: change.transition for change in changes}


def _require_same_source(path: Path, follows: SourceIdentity | None, source: SourceIdentity | None) -> None:
    """Raise SourceMismatchError, naming both, if a store that follows one source is given another."""
    if follows is not None and source is not None and not source.is_same(follows):
        raise SourceMismatchError(
            f"store {printable(path)}: follows {printable(follows)}, not {printable(source)}; use that source, "
            "another store, or `sync --replace-source`"
        )


def _check(reference: str, image: ObservedImage | None) -> None:
    """Raise InvalidReferenceError, InvalidDigestError or InvalidArgumentError for what the store cannot keep."""
    check_name(reference)
    if image is not None:
        validate(image.id)
        if not _SMALLEST <= image.size <= _LARGEST:
            raise InvalidArgumentError(f"image {image.id}: its size does not fit in 64 bits")
        if image.target_digest is not None:
            validate(image.target_digest)

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
from typing import TYPE_CHECKING, Self

from imagekeep.database import queries
from imagekeep.database.connection import connect, translating
from imagekeep.database.lock import lock_references, watcher_lock, writer_lock
from imagekeep.database.migrate import open_or_create
from imagekeep.database.revision import current_revision, require_head
from imagekeep.database.statements import BEGIN_IMMEDIATE
from imagekeep.database.writes import write_changes, write_incomplete, write_watcher
from imagekeep.digest import validate
from imagekeep.errors import (
    AlreadyWatchedError,
    AmbiguousError,
    FailedPreconditionError,
    ImagekeepError,
    ImageNotFoundError,
    InvalidArgumentError,
    PinNeedsReferenceError,
    printable,
)
from imagekeep.image import ObservedImage, observed_of
from imagekeep.oci.read import read_image
from imagekeep.paths import full_path
from imagekeep.platform import Platform, only
from imagekeep.reader import Reader, abandon_connection
from imagekeep.reference import check_name
from imagekeep.transition import ReferenceChange, ReferenceState, Transition, change_to, decide
from imagekeep.watcher_status import timestamp

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from imagekeep.database.driver import sqlite
    from imagekeep.image import Image, ImageRecord
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.read import ImageFacts
    from imagekeep.sources.protocol import Source
    from imagekeep.watcher_status import WatcherState

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class Store(Reader):
    """Keeps images in one SQLite file; opened by `Store.open`.

    `source` is where images really are, and `platform` is what they must run on; `update` needs the one and
    chooses by the other.
    """

    _writer: sqlite.Connection | None = None

    def __init__(self, path: Path, source: Source | None, platform: Platform) -> None:
        super().__init__(path)
        self.source = source
        self.platform = platform
        self._matcher = only(platform)
        self._wanted = platform.format_all()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        source: Source | None = None,
        platform: Platform | str | None = None,
    ) -> Self:
        """Open the store at `path`, making the file (mode 0600) where there is none.

        A relative path stays that file where the process changes its directory. `platform` is the host's own unless
        it is given, as a specifier or parsed. Raises SchemaVersionError for an older or newer schema,
        NotAStoreError for another file, PermissionDeniedError, StoreUnavailableError.
        """
        wanted = Platform.parse(platform) if isinstance(platform, str) else platform or Platform.host()
        file = Path(path)
        store = cls(full_path(file), source, wanted)
        open_or_create(file)
        return store

    def close(self) -> None:
        """Close the connections of every thread, and the writing one; the store can be used no more."""
        super().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

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

    def read_image(self, target: Descriptor) -> ImageFacts:
        """Read the image for the store's platform beneath a target at the source; raises as `update` does."""
        return read_image(target, self.require_source(), self._matcher)

    def record_failures(self, failures: Mapping[str, ImagekeepError]) -> None:
        """Note which references could not be read, and why, until they can or are gone."""
        with self._writing() as cursor:
            write_incomplete(cursor, failures, timestamp())

    def record_watcher(self, state: WatcherState) -> None:
        """Note how far the watcher of the source has come."""
        with self._writing() as cursor:
            write_watcher(cursor, state)

    @contextlib.contextmanager
    def watcher_lock(self) -> Iterator[None]:
        """Be the one watcher of this store until the context ends, or the process does.

        Raises AlreadyWatchedError, naming the other watcher, and StoreUnavailableError.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(watcher_lock(self.path))
            except AlreadyWatchedError as error:
                other = self.watcher()
                who = f"process {other.process_id}, source {printable(other.source)}" if other else "another"
                raise AlreadyWatchedError(
                    f"store {printable(self.path)}: already watched ({who}); stop that watcher first"
                ) from error
            yield

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
        self, observed: Mapping[str, ObservedImage | None], *, dry_run: bool = False
    ) -> dict[str, Transition]:
        """Make the store say of many references what was observed, in one transaction: all of it, or nothing.

        With `dry_run` everything is decided and written, and then rolled back.
        """
        for reference, image in observed.items():
            _check(reference, image)

        def decide_all(cursor: sqlite.Cursor) -> list[ReferenceChange]:
            """Decide each reference from what the store says of it."""
            before = queries.states_of(cursor, observed)
            return [
                change_to(reference, before.get(reference), image, self._wanted)
                for reference, image in observed.items()
            ]

        return self._write(decide_all, dry_run=dry_run)

    def mark_verified(
        self, records: Collection[ImageRecord], *, dry_run: bool = False
    ) -> dict[str, Transition]:
        """Note, in one transaction, which records point at the target that the store has read before.

        A digest fixes all that is beneath it, so no document is read for these; only their pins can have
        changed. A reference that is missing in the answer has to be observed. `dry_run` as in `apply_all`.
        """

        def decide_all(cursor: sqlite.Cursor) -> list[ReferenceChange]:
            """Decide those records whose target the store has read."""
            states = queries.states_of(cursor, [record.reference for record in records])
            return [
                ReferenceChange(record.reference, decide(before, after), before, after)
                for record in records
                if (before := states.get(record.reference)) and self.is_current(before, record)
                for after in [before.with_pin(record.pinned)]
            ]

        return self._write(decide_all, dry_run=dry_run)

    def is_current(self, state: ReferenceState, record: ImageRecord) -> bool:
        """Return whether the store has read the image beneath this record's target, for its platform."""
        return (state.target_digest, state.platform) == (record.target.digest, self._wanted)

    def add(self, image: Image) -> None:
        """Add an image, or its references to an image that is known; a pinned one is pinned by all of them.

        What is known keeps its size, chain id and config, and its pins (containerd: store.add). A reference of
        another image moves to this one. Raises InvalidArgumentError for an image without references.
        """
        if not image.references:
            raise InvalidArgumentError(f"image {printable(image.id)}: an image has at least one reference")
        facts = ObservedImage(image.id, image.chain_id, image.size, image.config_json, None, image.pinned)
        for reference in image.references:
            _check(reference, facts)

        def decide_all(cursor: sqlite.Cursor) -> list[ReferenceChange]:
            """Decide each of the image's references."""
            changes = []
            for reference in dict.fromkeys(image.references):
                before = queries.state_of(cursor, reference)
                keeps_pin = before is not None and before.image_id == image.id and before.pinned
                after = ReferenceState(image.id, image.pinned or keeps_pin)
                changes.append(ReferenceChange(reference, decide(before, after), before, after, facts))
            return changes

        self._write(decide_all)

    def delete(self, image_id: str, reference: str) -> bool:
        """Take `reference` from the image with this full or truncated id; return whether it was there.

        The image goes with its last reference. An id that is no one image's deletes nothing (containerd:
        store.delete); raises InvalidArgumentError for the empty one.
        """

        def decide_one(cursor: sqlite.Cursor) -> list[ReferenceChange]:
            """Decide the reference, where it is one of that image."""
            try:
                found = queries.find_id(cursor, image_id)
            except (ImageNotFoundError, AmbiguousError):
                return []
            before = queries.state_of(cursor, reference)
            if before is None or before.image_id != found:
                return []
            return [change_to(reference, before, None, self._wanted)]

        return bool(self._write(decide_one))

    def pin(self, image_id: str, reference: str) -> None:
        """Let `reference` pin the image with this full or truncated id (containerd: store.pin).

        Raises PinNeedsReferenceError where the image has no such reference, and as `get` does for the id.
        """
        self._set_pin(image_id, reference, pinned=True)

    def unpin(self, image_id: str, reference: str) -> None:
        """Let `reference` no longer pin the image (containerd: store.unpin); what has no pin stays so.

        Raises as `get` does for the id.
        """
        self._set_pin(image_id, reference, pinned=False)

    def _set_pin(self, image_id: str, reference: str, *, pinned: bool) -> None:
        def decide_one(cursor: sqlite.Cursor) -> list[ReferenceChange]:
            """Decide the pin, where the reference is one of that image."""
            found = queries.find_id(cursor, image_id)
            before = queries.state_of(cursor, reference)
            if before is None or before.image_id != found:
                if pinned:
                    raise PinNeedsReferenceError(
                        f"image {found} has no reference {printable(reference)} to pin it"
                    )
                return []
            after = ReferenceState(found, pinned)
            return [ReferenceChange(reference, decide(before, after), before, after)]

        self._write(decide_one)

    def _write(
        self, decide_all: Callable[[sqlite.Cursor], list[ReferenceChange]], *, dry_run: bool = False
    ) -> dict[str, Transition]:
        """Decide and write changes in one transaction; return the transitions once they are on disk."""
        with self._writing() as cursor:
            changes = decide_all(cursor)
            write_changes(cursor, changes, timestamp())
            if dry_run:
                cursor.connection.rollback()
        return {change.reference: change.transition for change in changes}

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite.Cursor]:
        """Give a cursor of the connection that writes, in a transaction that nobody else's overlaps.

        It begins as BEGIN IMMEDIATE: one that begins deferred and writes later fails with "locked", whatever the
        timeout, when another has committed in between. The schema is looked at again in each: another process
        may have moved it since the store was opened.
        """
        with writer_lock(self.path), translating(self.path):
            connection = self._open_writer()
            cursor = connection.cursor()
            cursor.execute(BEGIN_IMMEDIATE)
            try:
                require_head(current_revision(cursor), self.path)
                yield cursor
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def _open_writer(self) -> sqlite.Connection:
        """Return the one connection that writes, which the writers' lock keeps to one thread at a time."""
        self._require_open()
        if self._writer is None:
            self._writer = connect(self.path)
        return self._writer

    def forget_connections(self) -> None:
        """Leave the connections that there are to the parent, in a child after a fork."""
        super().forget_connections()
        abandon_connection(self._writer)
        self._writer = None


def _check(reference: str, image: ObservedImage | None) -> None:
    """Raise InvalidReferenceError, InvalidDigestError or InvalidArgumentError for what the store cannot keep."""
    check_name(reference)
    if image is not None:
        validate(image.id)
        if not _SMALLEST <= image.size <= _LARGEST:
            raise InvalidArgumentError(f"image {image.id}: its size does not fit in 64 bits")
        if image.target_digest is not None:
            validate(image.target_digest)

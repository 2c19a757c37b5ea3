"""The image store: containerd's, in SQLite (internal/cri/store/image/image.go).

`Store` adds writing to `Reader`. `update` takes two steps::

    observed = store.observe(reference)     reads the source for each platform; no transaction is open, nobody waits
    store.apply(reference, observed)        decides (imagekeep.transition) and writes, in one transaction

under a lock on the reference, so that of two concurrent updates the later answer stays. If anything fails,
nothing has changed.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from imagekeep.database import queries
from imagekeep.database.create import open_or_create
from imagekeep.database.history_cut import cut_history
from imagekeep.database.kept import Guard, KeptConnection, write_transaction
from imagekeep.database.lock import WRITER_WAIT, lock_references
from imagekeep.database.platforms import keep_platforms
from imagekeep.database.usage import find_last_use, is_worth_writing, write_use
from imagekeep.database.writes import write_changes
from imagekeep.errors import (
    AmbiguousError,
    FailedPreconditionError,
    ImagekeepError,
    ImageNotFoundError,
    InvalidArgumentError,
    PinNeedsReferenceError,
    printable,
)
from imagekeep.image import GONE, Observation, ObservedImage, require_image, require_storable
from imagekeep.internals import apply_observations
from imagekeep.observe import observation_of, observe_target
from imagekeep.paths import store_path
from imagekeep.platform import ALL_PLATFORMS, Platform, name_of
from imagekeep.reader import Reader
from imagekeep.reference import check_name
from imagekeep.sources.specifier import open_source
from imagekeep.sync import SyncReport, sync
from imagekeep.times import timestamp, to_microseconds
from imagekeep.transition import ReferenceChange, ReferenceState, Transition, change_to, decide

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from imagekeep.database.driver import sqlite
    from imagekeep.image import Image
    from imagekeep.sources.protocol import Source
    from imagekeep.transition import KeptPlatform


log = logging.getLogger("imagekeep.store")

TOUCH_WAIT = 1.0
"""Seconds to wait for other writers before a use is lost."""


class Store(Reader):
    """Keeps images in one SQLite file; opened by `Store.open`.

    `update` and `sync` read the images for its platforms from `source`. What Reader says about threads, forks and
    other SQLite libraries holds here too. If the file is moved, replaced or deleted, nothing more is written to
    it: the store now at the path is used, or StoreUnavailableError raised.
    """

    def __init__(self, path: Path, source: Source | None, platforms: Sequence[str] = ()) -> None:
        super().__init__(path)
        self.source = source
        self._wanted = tuple(dict.fromkeys(platforms))
        self._platform = self._wanted[0] if self._wanted else None
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
        platforms: Iterable[Platform | str] | Literal["*"] | None = None,
    ) -> Self:
        """Open the store at `path`; create the file (mode 0600) if it does not exist.

        A relative path stays valid if the process changes its directory. `source` may be a specifier, such as
        `oci:DIRECTORY`: closing the store then closes the source.

        `platforms` are those to update and answer for, as Platforms or specifiers, the first one being the default
        of every question; `"*"` stands for the host's and every other one whose content the source has. `platform`
        is short for one. By default they are those that the store keeps, and for a new one the host's. Platforms
        that the store does not keep yet are added by the next update; `sync` can drop others.

        Raises InvalidArgumentError for SQLite's `:memory:` and URIs, InvalidPlatformError, SchemaVersionError for
        an older or newer schema, NotAStoreError for another file, PermissionDeniedError, StoreUnavailableError, and
        as `open_source` does.
        """
        wanted = _names_of(platform, platforms)
        store = cls(store_path(path), open_source(source) if isinstance(source, str) else source, wanted)
        store._owns_source = isinstance(source, str)
        try:
            open_or_create(Path(path))
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the connections of every thread, and a source that was given as a specifier."""
        super().close()
        if self._owns_source and self.source is not None:
            self.source.close()

    @property
    def platform(self) -> Platform:
        """Return the platform that questions are about by default."""
        return Platform.parse(self._platform_names()[0])

    def sync(
        self,
        references: Iterable[str] | None = None,
        *,
        verify: bool = False,
        dry_run: bool = False,
        replace_source: bool = False,
        replace_platforms: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> SyncReport:
        """Update the store from its source: these references, or all; see `imagekeep.sync.sync`."""
        return sync(
            self,
            references,
            verify=verify,
            dry_run=dry_run,
            replace_source=replace_source,
            replace_platforms=replace_platforms,
            progress=progress,
        )

    def update(self, reference: str) -> Transition:
        """Update one reference from the source (containerd: Store.Update), for every platform in one transaction.

        Returns what happened for the first platform for which the image could be read; `update_platforms` tells
        about each. Raises InvalidReferenceError for an impossible name, the source's errors, the errors of reading
        documents for the first platform if they can be read for none (with `reference` and `stage` set),
        StoreBusyError and StoreUnavailableError; the store is then unchanged.
        """
        with self._lock([reference]):
            return self.apply(reference, self.observe(reference))

    def update_platforms(self, reference: str) -> dict[str, Transition | ImagekeepError]:
        """Update one reference from the source; return for each platform what happened, or why it was not read.

        Raises as `update` does, except that documents cannot be read.
        """
        with self._lock([reference]):
            observation = self.observe(reference)
            transitions = apply_observations(self, {reference: observation})[reference]
        return {**transitions, **observation.errors}

    def observe(self, reference: str) -> Observation:
        """Read from the source the image of `reference` for each platform.

        Raises as `update` does, except that documents cannot be read; the store is not written.
        """
        source = self._require_source()
        try:
            record = source.get(reference)
        except ImageNotFoundError:
            return GONE
        try:
            reading = observe_target(record.target, source, self._platform_names())
        except ImagekeepError as error:
            error.reference = reference
            raise
        observation = observation_of(record, reading.with_presence(source))
        for each in observation.errors.values():
            each.reference = reference
        return observation

    def apply(self, reference: str, observed: Observation | ObservedImage | None) -> Transition:
        """Update one reference to what was observed; an image stands for the first platform, None deletes it.

        Raises InvalidReferenceError or InvalidDigestError, and as `update` does for the documents and the file.
        """
        if isinstance(observed, Observation):
            require_image(observed.images)
        transitions = apply_observations(self, {reference: observed})[reference]
        return next(iter(transitions.values()))

    def add(self, image: Image) -> None:
        """Add an image, or add its references to it if the store has it (containerd: store.add).

        If `image.pinned`, each of the references pins it. An existing image keeps its size, chain id, config and
        pins; a reference of another image moves. Only the store changes, and the next sync undoes it unless the
        source has the image too. Raises InvalidArgumentError for an image without references.
        """
        if not image.references:
            raise InvalidArgumentError(f"image {printable(image.id)}: needs at least one reference")
        facts = ObservedImage(image.id, image.chain_id, image.size, image.config_json, None, image.pinned)
        for reference in image.references:
            require_storable(reference, facts)
        with self._transaction() as cursor:
            changes, platform = [], self._first(cursor)
            for reference in dict.fromkeys(image.references):
                before = queries.state_of(cursor, reference, platform.key)
                keeps_pin = before is not None and before.image_id == image.id and before.pinned
                after = ReferenceState(image.id, image.pinned or keeps_pin)
                change = ReferenceChange(reference, decide(before, after), before, after, facts, platform)
                changes.append(change)
            write_changes(cursor, changes, timestamp())

    def delete(self, image_id: str, reference: str) -> bool:
        """Delete a reference of the image with a full or truncated id; return whether it existed.

        The image is deleted with its last reference. An unknown or ambiguous id deletes nothing (containerd:
        store.delete). Only the store changes, and the next sync undoes it; `Actions.untag` deletes at the source.
        Raises InvalidArgumentError for an empty id.
        """
        with self._transaction() as cursor:
            platform = self._first(cursor)
            try:
                found = queries.find_id(cursor, image_id, platform.key)
            except (ImageNotFoundError, AmbiguousError):
                return False
            before = queries.state_of(cursor, reference, platform.key)
            if before is None or before.image_id != found:
                return False
            write_changes(cursor, [change_to(reference, before, None, platform)], timestamp())
            return True

    def pin(self, image_id: str, reference: str) -> None:
        """Pin the image with a full or truncated id by one of its references (containerd: store.pin).

        Only the store changes, and the next sync undoes it; `Actions.pin` pins at the source. Raises
        PinNeedsReferenceError if the image has no such reference, and as `get` does for the id.
        """
        self._set_pin(image_id, reference, pinned=True)

    def unpin(self, image_id: str, reference: str) -> None:
        """Remove the pin of one of an image's references, if there is one (containerd: store.unpin).

        Only the store changes, and the next sync undoes it; `Actions.unpin` unpins at the source. Raises as `get`
        does for the id.
        """
        self._set_pin(image_id, reference, pinned=False)

    def prune_history(self, older_than: datetime, *, keep_last: bool = False, dry_run: bool = False) -> int:
        """Remove the history before a time; return how many rows. What existed then and later can still be asked.

        With `keep_last` the last row of each reference that had vanished by then stays too. A row in `history_cuts`
        says what was removed, unless there was nothing to remove. With `dry_run` nothing is changed. Raises
        InvalidArgumentError for a time without a zone or in the future.
        """
        now = timestamp()
        if older_than.tzinfo is None or to_microseconds(older_than) > now:
            raise InvalidArgumentError(
                f"history before {older_than}: must have a time zone and not be in the future"
            )
        with self._transaction(dry_run=dry_run) as cursor:
            return cut_history(cursor, to_microseconds(older_than), now, keep_last=keep_last)

    def touch(self, image_or_reference: str, at: datetime | None = None) -> None:
        """Report a use of an image, by any name that `find` takes, now or at a time in the past.

        At most one use a minute is written for each image. Never raises and never waits for more
        than a second: a use that cannot be written is logged at debug level. Only the store changes.
        """
        try:
            self._report_use(image_or_reference, at)
        except Exception as error:  # whatever it is, it must not fail the caller
            log.debug("cannot record a use: %s", error)

    def _report_use(self, name: str, at: datetime | None) -> None:
        now = timestamp()
        used = now if at is None else min(now, to_microseconds(at))
        image_id, last_used = self._connections.ask(find_last_use, name, self._platform)
        if is_worth_writing(used, last_used):
            with self._transaction(wait=TOUCH_WAIT) as cursor:
                write_use(cursor, image_id, used)

    def _set_pin(self, image_id: str, reference: str, *, pinned: bool) -> None:
        with self._transaction() as cursor:
            platform = self._first(cursor)
            found = queries.find_id(cursor, image_id, platform.key)
            before = queries.state_of(cursor, reference, platform.key)
            if before is not None and before.image_id == found:
                after = ReferenceState(found, pinned)
                change = ReferenceChange(reference, decide(before, after), before, after, platform=platform)
                write_changes(cursor, [change], timestamp())
            elif pinned:
                raise PinNeedsReferenceError(
                    f"image {found}: has no reference {printable(reference)} to pin it"
                )

    def _platform_names(self) -> tuple[str, ...]:
        """Return the platforms to update: those of `open`, else those that the store keeps, else the host's."""
        return self._wanted or tuple(self.kept_platforms()) or (name_of(Platform.host()),)

    def _first(self, cursor: sqlite.Cursor) -> KeptPlatform:
        """Return the platform that changes without a source are made for."""
        if self._wanted:
            return keep_platforms(cursor, self._wanted[:1])[0]
        return queries.platforms(cursor)[0]

    def _require_source(self) -> Source:
        if self.source is None:
            raise FailedPreconditionError(f"store {printable(self.path)}: opened without a source")
        return self.source

    def _lock(self, references: Iterable[str] | None) -> AbstractContextManager[None]:
        """Lock these references against other updates, or all if None; see `internals.lock_references`."""
        names = None if references is None else list(references)
        for name in names or ():
            check_name(name)
        return lock_references(self.path, names)

    @contextlib.contextmanager
    def _transaction(self, *, dry_run: bool = False, wait: float = WRITER_WAIT) -> Iterator[sqlite.Cursor]:
        """Yield the cursor of a write transaction, which is on disk when the context ends."""
        self._connections.require_open()
        with write_transaction(self._writer, dry_run=dry_run, wait=wait) as cursor:
            self._connections.require_open()
            yield cursor


def _names_of(
    platform: Platform | str | None, platforms: Iterable[Platform | str] | Literal["*"] | None
) -> tuple[str, ...]:
    """Return the names of the platforms that a store was opened with; empty for those that it keeps."""
    if platform is not None and platforms is not None:
        raise InvalidArgumentError("either platform or platforms may be given, not both")
    if isinstance(platforms, str):
        platforms = [platforms]
    given = [platform] if platform is not None else list(platforms or ())
    names = [name_of(each) for each in given if each != ALL_PLATFORMS]
    if len(names) < len(given):
        return (
            *(names or [name_of(Platform.host())]),
            ALL_PLATFORMS,
        )  # the first one answers, which `*` cannot
    return tuple(names)

"""Updates a store from its source.

One listing of the source confirms the references whose target has not changed, in one transaction and without
reading documents. The others (new, moved or deleted) are processed in batches: while the references of a batch
are locked, their records are fetched again, their documents read concurrently, and the results written in one
transaction. A broken image is reported, keeps its last state, and does not stop the others.

A sync of all references deletes those that the source does not have. The store therefore remembers its source and
refuses another one unless told to replace it. It also records which blobs the source has, which layers are
unpacked, and which containers there are (imagekeep.content_look).
"""

from __future__ import annotations

import copy
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from imagekeep.content_look import finish_look, list_blobs, look_at_source
from imagekeep.errors import (
    AlreadyWatchedError,
    FailedPreconditionError,
    ImagekeepError,
    ImageNotFoundError,
    InvalidReferenceError,
    NamespaceNotFoundError,
    PermissionDeniedError,
    SourceFaultError,
    SourceMismatchError,
    SourceUnavailableError,
    printable,
)
from imagekeep.internals import (
    Alongside,
    apply_all,
    drop_other_platforms,
    droppable_platforms,
    follows_its_source,
    lock_references,
    mark_verified,
    observe,
    platforms_of,
    remember_source,
    require_same_source,
    require_source,
)
from imagekeep.observe import observation_of
from imagekeep.oci.image_reader import SharedDocuments
from imagekeep.reference import check_name
from imagekeep.transition import Transition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from imagekeep.database.presence import Look
    from imagekeep.image import ImageRecord, Observation
    from imagekeep.internals import StatusUpdate
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.store import Store

BATCH = 128
"""References written in one transaction; about 1 MB with configs of the usual size."""

HELD_BYTES_MAX = 64 << 20
"""Maximum bytes of documents to hold before writing; a larger batch takes several transactions."""

LISTED_FROM = 16
"""If more references have to be read, all blobs of the source are listed once, instead of those of each image."""

MAX_WORKERS = 8
"""Documents read concurrently: enough to hide round trips to a daemon without overloading it."""

SOURCE_FAILURES = (
    SourceUnavailableError,
    PermissionDeniedError,
    FailedPreconditionError,
    NamespaceNotFoundError,
)
"""Errors of the source as a whole, except SourceFaultError, which concerns one reference."""

MAX_PENDING = 2 * MAX_WORKERS
"""Maximum reads in flight or finished but not consumed; enough to keep every worker busy."""

Subject = TypeVar("Subject")
Result = TypeVar("Result")


@dataclass(slots=True)
class SyncReport:
    """The result of a sync: each reference's transition, or the error why it could not be read.

    `image_ids` has the image of each reference whose documents were read, not of those confirmed by the listing.
    `dropped` has the platforms that the store no longer keeps, and how many references each had.
    """

    transitions: dict[str, Transition] = field(default_factory=dict)
    image_ids: dict[str, str] = field(default_factory=dict)
    failures: dict[str, ImagekeepError] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> Mapping[Transition, int]:
        """Return the number of references per transition."""
        return Counter(self.transitions.values())

    @property
    def changed(self) -> dict[str, Transition]:
        """Return the references that changed."""
        return {name: transition for name, transition in self.transitions.items() if transition.changed}


@dataclass(frozen=True, slots=True)
class _Run:
    """One sync: its options and its report so far."""

    store: Store
    report: SyncReport
    verify: bool
    dry_run: bool
    alongside: Alongside
    deletes: bool = True
    reread: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    shared: SharedDocuments = field(default_factory=SharedDocuments)


def sync(
    store: Store,
    references: Iterable[str] | None = None,
    *,
    verify: bool = False,
    dry_run: bool = False,
    replace_source: bool = False,
    replace_platforms: bool = False,
    progress: Callable[[int, int], None] | None = None,
    status: StatusUpdate | None = None,
) -> SyncReport:
    """Update a store from its source: the given references, or all of both; delete those that vanished.

    With `verify`, every document is read again. With `dry_run`, every transaction is rolled back. `progress` is
    called with the number of references done and the total. `status` returns the watcher status to write with
    each transaction. Raises SOURCE_FAILURES from the source, and the store's errors; earlier transactions stay.

    With `replace_platforms` the store keeps no platform but those that it was opened with; otherwise the images for
    others stay as they are.

    If the store follows another source, a sync of all references raises SourceMismatchError (with
    `replace_source` only AlreadyWatchedError, while a watcher follows that one), and a sync of given references
    deletes none.
    """
    alongside = Alongside(references is None, replace_source, status)
    deletes = references is None or follows_its_source(store)
    run = _Run(store, SyncReport(), verify, dry_run, alongside, deletes)
    report = run.report
    names, look = _confirm_listing(run) if references is None else (dict.fromkeys(references), None)
    waiting = [name for name in names if _can_keep(name, report)]
    if look and len(waiting) > LISTED_FROM:
        run.listed.update(list_blobs(store))
    done = len(report.transitions) + len(report.failures)
    total = done + len(waiting)
    for batch in _batches(waiting):
        with lock_references(store, batch):
            _sync_batch(run, batch)
        done += len(batch)
        if progress:
            progress(done, total)
    if references is None and not dry_run:
        remember_source(store, replace=replace_source)
    if look and report.image_ids and not dry_run:
        finish_look(store, report.image_ids, look)
    if replace_platforms:
        report.dropped = droppable_platforms(store)
        if not dry_run:
            drop_other_platforms(store)
    return report


def is_source_failure(error: ImagekeepError) -> bool:
    """Return whether a source failed as a whole, so that other references would fail too."""
    return isinstance(error, SOURCE_FAILURES) and not isinstance(error, SourceFaultError)


def _can_keep(name: str, report: SyncReport) -> bool:
    """Return whether a store can keep this name; otherwise report a failure."""
    try:
        check_name(name)
    except InvalidReferenceError as error:
        report.failures[name] = error
    return name not in report.failures


def _confirm_listing(run: _Run) -> tuple[dict[str, None], Look]:
    """Confirm the references that are unchanged; return the others, grouped by target, and what the source has."""
    store = run.store
    _check_source(run)
    with lock_references(store, None):
        records = list(require_source(store).records())
        look = look_at_source(store)
        run.reread.update(look.reread)
        confirmed = run.report.transitions
        current = [] if run.verify else _unless_reread(run, records)
        confirmed.update(
            mark_verified(store, current, alongside=run.alongside._replace(look=look), dry_run=run.dry_run)
        )
        left = sorted(
            (record for record in records if record.reference not in confirmed),
            key=lambda record: record.target.digest,
        )
        listed = (record.reference for record in left)
        unread = (incomplete.reference for incomplete in store.incomplete())
        known = (name for name in chain(store.references(), unread) if name not in confirmed)
        return dict.fromkeys(chain(listed, known)), look


def _unless_reread(run: _Run, records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Return the records of references that need not be read again for documents that came."""
    return [record for record in records if record.reference not in run.reread]


def _check_source(run: _Run) -> None:
    """Raise SourceMismatchError, or AlreadyWatchedError when replacing, if the store follows another source."""
    try:
        require_same_source(run.store)
    except SourceMismatchError:
        if not run.alongside.replace_source:
            raise
        if run.store.is_watched():
            raise AlreadyWatchedError(
                f"store {printable(run.store.path)}: source is watched (stop the watcher before replacing it)"
            ) from None


def _sync_batch(run: _Run, batch: list[str]) -> None:
    """Update one batch: fetch its records, read the images that have changed, and write the results."""
    store, report = run.store, run.report
    failures: dict[str, ImagekeepError] = {}
    observed: dict[str, Observation | None] = {}
    held = 0
    with ThreadPoolExecutor(MAX_WORKERS) as pool:
        found = dict(_map(pool, require_source(store).get, batch, failures))
        gone = [name for name, error in failures.items() if isinstance(error, ImageNotFoundError)]
        for name in gone:
            del failures[name]
        if not run.deletes:
            report.transitions.update(dict.fromkeys(gone, Transition.ABSENT))
            gone = []
        if not run.verify:
            current = _unless_reread(run, found.values())
            confirmed = mark_verified(store, current, alongside=run.alongside, dry_run=run.dry_run)
            report.transitions.update(confirmed)
        unread = [record for name, record in found.items() if name not in report.transitions]
        for name, image in _read(pool, run, unread, failures):
            observed[name] = image
            held += image.held_bytes
            if held > HELD_BYTES_MAX:
                _apply(run, observed, {})
                observed, held = {}, 0
    _apply(run, observed | dict.fromkeys(gone), failures)


def _apply(run: _Run, observed: dict[str, Observation | None], failures: dict[str, ImagekeepError]) -> None:
    """Write and report the observed images and the failures, in one transaction."""
    if observed or failures:
        run.report.transitions.update(
            apply_all(run.store, observed, failures=failures, alongside=run.alongside, dry_run=run.dry_run)
        )
    run.report.image_ids.update((name, said.image_id) for name, said in observed.items() if said)
    run.report.failures.update(failures)


def _read(
    pool: ThreadPoolExecutor, run: _Run, records: list[ImageRecord], failures: dict[str, ImagekeepError]
) -> Iterator[tuple[str, Observation]]:
    """Read the images of the records' targets, each target once; collect errors by reference."""
    by_target: dict[Descriptor, list[ImageRecord]] = {}
    for record in records:
        by_target.setdefault(record.target, []).append(record)
    unreadable: dict[Descriptor, ImagekeepError] = {}
    platforms = platforms_of(run.store)
    read = partial(observe, run.store, shared=run.shared, listed=run.listed, platforms=platforms)
    for target, reading in _map(pool, read, by_target, unreadable):
        for record in by_target[target]:
            yield record.reference, observation_of(record, reading)
    failures.update({r.reference: error for target, error in unreadable.items() for r in by_target[target]})


def _map(
    pool: ThreadPoolExecutor,
    function: Callable[[Subject], Result],
    subjects: Iterable[Subject],
    failures: dict[Subject, ImagekeepError],
) -> Iterator[tuple[Subject, Result]]:
    """Yield each subject with the result of `function`, computed concurrently; collect errors by subject.

    Limits the results not yet consumed, because each may hold a document.
    """
    rest = iter(subjects)
    pending = deque((subject, pool.submit(function, subject)) for subject in islice(rest, MAX_PENDING))
    while pending:
        subject, future = pending.popleft()
        try:
            answer = future.result()
        except ImagekeepError as error:
            if is_source_failure(error):
                # If the source hangs, each would take its whole timeout, with the references locked.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            # A copy has no traceback, which would keep the documents in memory.
            failures[subject] = copy.copy(error)
        else:
            yield subject, answer
        pending.extend((subject, pool.submit(function, subject)) for subject in islice(rest, 1))


def _batches(names: list[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while batch := list(islice(rest, BATCH)):
        yield batch

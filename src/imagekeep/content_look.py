"""Looks at what a source has besides records: blobs, unpacked layers and containers.

A sync of all references takes one look, with one listing of each, and writes what has changed with the references
that it confirms::

    look_at_source   lists blobs, layers and containers                 no transaction is open
    write_look       writes what came, went or changed (database)       with the references that are confirmed
    finish_look      does the same for the layers of the images that were read since

Which blobs of an image the source has is also found out as it is read (imagekeep.observe).

If the source cannot answer one of these, what was known stays. If it has no such thing, as a layout has no
containers, nothing is known about it.

A document that was absent and is there now, as after another platform was fetched, is not only recorded: the
references that it belongs to are read again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from imagekeep.database import presence, usage
from imagekeep.database.presence import Look, Unpacked
from imagekeep.database.usage import UNKNOWN_CHAIN
from imagekeep.errors import ImagekeepError
from imagekeep.internals import lock_references, require_source, write
from imagekeep.reader import ask
from imagekeep.sources.protocol import (
    ContainerLister,
    ContentLister,
    SnapshotLister,
    contents_of,
    optional_answer,
)
from imagekeep.times import current_time, timestamp
from imagekeep.usage import compare

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from imagekeep.sources.protocol import Source
    from imagekeep.store import Store
    from imagekeep.usage import Container, ContainerRecord

log = logging.getLogger("imagekeep.content_look")

MAX_SINGLE_MEASURES = 64
"""Layers to ask about one by one after images were read; for more, one listing comes first."""

CONTAINERS = "the containers of the source"
"""What is locked, among the names of references, while containers are listed and written."""


def look_at_source(store: Store) -> Look:
    """Return how what the source has differs from what the store knows; raises only the store's errors."""
    source, at = require_source(store), current_time()
    blobs = _blobs(store, source)
    unread = ask(store, presence.unread_documents, [digest for digest, came in (blobs or {}).items() if came])
    times, kept = ask(store, presence.look_times), ask(store, usage.all_containers)
    layers, containers = _layers(store, source, times.snapshotter), _containers(source)
    if blobs is not None:
        times = times._replace(blobs_at=at)
    if layers is not None:
        has_snapshots = isinstance(source, SnapshotLister)
        times = times._replace(snapshots_at=at if has_snapshots else None, snapshotter=_snapshotter(source))
    if containers is not None:
        times = times._replace(containers_at=at if isinstance(source, ContainerLister) else None)
    return Look(
        times=times,
        blobs={digest: came for digest, came in (blobs or {}).items() if digest not in unread},
        layers=layers or {},
        containers=containers,
        chain_ids={} if containers is None else _chain_ids(source, kept, containers),
        reread=frozenset().union(*unread.values()),
        differs=bool(blobs or layers or (containers is not None and compare(kept, containers))),
    )


def list_blobs(store: Store) -> Collection[str]:
    """Return the digests of all blobs of the source; none if it does not list them."""
    source = require_source(store)
    return (optional_answer("blobs", source.contents) or ()) if isinstance(source, ContentLister) else ()


def finish_look(store: Store, references: Collection[str], look: Look | None = None) -> None:
    """Find out which layers of the images beneath these references are unpacked; they were read just now.

    With a look, also find out which images its containers use, which may be among those.
    """
    at = current_time()
    layers = _layers_beneath(store, require_source(store), references)
    if not (layers or look):
        return
    with write(store) as cursor:
        presence.write_unpacked(cursor, layers)
        if look:
            is_known = look.times.blobs_at or not presence.is_presence_known(cursor)
            presence.write_look_times(cursor, look.times if is_known else look.times._replace(blobs_at=at))
        if look and look.containers:
            changes = compare(usage.all_containers(cursor), look.containers)
            unresolved = changes._replace(new=(), changed=(), gone=())
            usage.write_containers(cursor, unresolved, look.chain_ids, timestamp())


def look_at_containers(store: Store, ids: Collection[str]) -> None:
    """Update these containers from the source, and what is known of the layers of new ones' images."""
    source = require_source(store)
    with lock_references(store, [CONTAINERS]):
        listed = (
            optional_answer("containers", source.containers, ids)
            if isinstance(source, ContainerLister)
            else None
        )
        if listed is None:
            return
        known = [each for each in ask(store, usage.all_containers) if each.id in ids]
        changes = compare(known, listed)
        if not changes:
            return
        chain_ids = _chain_ids(source, known, listed)
        with write(store) as cursor:
            usage.write_containers(cursor, changes, chain_ids, timestamp())
    finish_look(store, {record.reference for record in changes.new})


def _blobs(store: Store, source: Source) -> dict[str, bool] | None:
    """Return each blob whose stored presence is wrong, and whether the source has it; None if not known."""
    wanted = ask(store, presence.all_digests)
    present = optional_answer("blobs", contents_of, source, wanted) if wanted else None
    return None if present is None else ask(store, presence.came_or_went, present)


def _layers(store: Store, source: Source, snapshotter: str | None) -> dict[str, Unpacked] | None:
    """Return the layers whose stored state is wrong, as they are now; None if the source does not say.

    The size of a layer is asked for once, unless another snapshotter than before has it.
    """
    if not isinstance(source, SnapshotLister):
        return ask(store, presence.all_unknown)
    unpacked = optional_answer("unpacked layers", source.unpacked)
    if unpacked is None:
        return None
    anew = source.snapshotter != snapshotter
    unmeasured = ask(store, lambda cursor: presence.unmeasured(cursor, unpacked, all_sizes=anew))
    sizes = optional_answer("sizes of layers", source.unpacked_bytes, unmeasured) if unmeasured else {}
    return ask(store, presence.unpacked_or_not, unpacked, sizes or {})


def _containers(source: Source) -> Collection[ContainerRecord] | None:
    """Return the containers of a source, none if it has no such thing; None if it does not say."""
    return optional_answer("containers", source.containers) if isinstance(source, ContainerLister) else ()


def _chain_ids(
    source: Source, known: Iterable[Container], listed: Iterable[ContainerRecord]
) -> dict[str, str | None]:
    """Return the chain id of what each container whose image is not known was made from.

    None if no snapshot says so.
    """
    changes = compare(known, listed)
    if not isinstance(source, ContainerLister):
        return {}
    chain_ids: dict[str, str | None] = {}
    for record in (*changes.new, *changes.unresolved):
        try:
            chain_ids[record.id] = source.parent_of(record)
        except ImagekeepError as error:
            log.debug("cannot find the snapshot of container %s: %s", record.id, error)
            chain_ids[record.id] = UNKNOWN_CHAIN
    return chain_ids


def _layers_beneath(store: Store, source: Source, references: Collection[str]) -> dict[str, Unpacked]:
    """Return for each layer beneath these references that was not unpacked whether it is now."""
    if not isinstance(source, SnapshotLister):
        return {}
    missing = ask(store, presence.missing_chains, references)
    asked: Collection[str] | None = missing
    if len(missing) > MAX_SINGLE_MEASURES:
        unpacked = optional_answer("unpacked layers", source.unpacked)
        asked = None if unpacked is None else missing.intersection(unpacked)
    sizes = None if asked is None else optional_answer("sizes of layers", source.unpacked_bytes, asked)
    if sizes is None:
        return {}
    return {chain_id: Unpacked(chain_id in sizes, sizes.get(chain_id)) for chain_id in missing}


def _snapshotter(source: Source) -> str | None:
    return source.snapshotter if isinstance(source, SnapshotLister) else None

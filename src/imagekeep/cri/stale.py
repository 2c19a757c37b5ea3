"""Compares containerd's CRI image service with containerd's records, to find stale images.

::

    containerd's records   ──> images and their names, as imagekeep makes them ─┐
                                                                                ├──> stuck, lost, stays
    containerd's CRI       ──> ListImages: images and their names               ┘

The service keeps its images in memory, updates them from events, and rereads the records only when containerd
starts; until then its errors persist (containerd issues 14080 and 7698). Both can be read over the same socket.
"""

from __future__ import annotations

import enum
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from imagekeep.cri.cri_proxy import cri_socket_of
from imagekeep.cri.protocol import LIST_IMAGES
from imagekeep.diff import TargetIds, state_at_source
from imagekeep.errors import FailedPreconditionError, ImagekeepError, SourceUnsupportedError, printable
from imagekeep.internals import require_source
from imagekeep.reference import repo_digests, repo_tags
from imagekeep.sources.containerd import DEFAULT_NAMESPACE
from imagekeep.sources.containerd.connection import Connection
from imagekeep.sync import is_source_failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from imagekeep.store import Store

CALL_TIMEOUT: Final = 10.0
"""Timeout in seconds of ListImages, which answers from memory."""

PAUSE: Final = 0.25
"""Seconds between two comparisons. The service needs about 4 ms to show a new record."""


class Fault(enum.StrEnum):
    """How the service differs from containerd's records."""

    STUCK = "stuck"
    """The service lists an image without a record."""

    LOST = "lost"
    """The service does not show a record's name, or an image whose records are named only by ids."""

    LINGERING = "stays"
    """The service shows a name that no record has for this image."""


class Stale(NamedTuple):
    """A difference; `name` is a tag or digest, or the image id if the image has neither."""

    name: str
    fault: Fault
    image_id: str


class Recorded(NamedTuple):
    """containerd's records: the references of each image id, and those whose images cannot be read."""

    references: Mapping[str, AbstractSet[str]]
    unread: AbstractSet[str] = frozenset()


def find_stale(store: Store, pause: float = PAUSE) -> list[Stale]:
    """Compare the CRI of the store's containerd with containerd's records; return differences sorted by name.

    Compares twice, `pause` seconds apart, and returns what differs both times, because the service may be about
    to catch up. Changes nothing. Pins are not compared, because containerd 1.6 does not report them. Raises
    FailedPreconditionError if the source has no CRI, SourceUnsupportedError if containerd's CRI plugin is
    disabled, and the source's errors.
    """
    socket = cri_socket_of(require_source(store))
    if socket is None:
        raise FailedPreconditionError(
            f"source has no CRI: only containerd has a CRI, for namespace {DEFAULT_NAMESPACE}"
        )
    with closing(Connection(socket, DEFAULT_NAMESPACE)) as connection:
        first = compare(_shown(connection), _recorded(store))
        if not first:
            return []
        time.sleep(pause)
        return sorted(first & compare(_shown(connection), _recorded(store)))


def compare(shown: Mapping[str, AbstractSet[str]], recorded: Recorded) -> set[Stale]:
    """Compare the names that the service shows for each image id with the records.

    The names of an unreadable image are ignored: whether the service shows them depends on when the image broke.
    """
    found: set[Stale] = set()
    expected = {image_id: _names(references) for image_id, references in recorded.references.items()}
    for image_id, names in expected.items():
        wanted = names or ({image_id} - shown.keys())
        missing = wanted - shown.get(image_id, frozenset())
        found |= {Stale(name, Fault.LOST, image_id) for name in missing}
    doubtful = _names(recorded.unread) | recorded.unread
    for image_id, tags in shown.items():
        stays = tags - expected.get(image_id, frozenset()) - doubtful
        found |= {Stale(tag, Fault.LINGERING, image_id) for tag in stays}
        if image_id not in expected and not (tags | {image_id}) & doubtful:
            found.add(Stale(image_id, Fault.STUCK, image_id))
    return found


def _names(references: Iterable[str]) -> set[str]:
    """Return the tags and digests that the CRI shows for references."""
    listed = list(references)
    return {*repo_tags(listed), *repo_digests(listed)}


def _shown(connection: Connection) -> dict[str, set[str]]:
    """Return the names that the service shows for each image id."""
    try:
        answer = connection.call(LIST_IMAGES, LIST_IMAGES.request(), timeout=CALL_TIMEOUT)
    except SourceUnsupportedError as error:
        raise SourceUnsupportedError(
            f"containerd at {printable(connection.path)} has no CRI image service (is its CRI plugin disabled?)"
        ) from error
    return {image.id: {*image.repo_tags, *image.repo_digests} for image in answer.images}


def _recorded(store: Store) -> Recorded:
    """Return containerd's records, reading the images that the store does not have."""
    states = store.states()
    ids = TargetIds(store)
    references: dict[str, set[str]] = {}
    unread = set()
    for record in require_source(store).records():
        try:
            image_id = state_at_source(states.get(record.reference), record, ids).image_id
        except ImagekeepError as error:
            if is_source_failure(error):
                raise
            unread.add(record.reference)
        else:
            references.setdefault(image_id, set()).add(record.reference)
    return Recorded(references, unread)

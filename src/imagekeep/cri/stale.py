"""Finds where containerd's own CRI image service is stale: where it differs from containerd's records.

::

    containerd's records   ──> images and their names, as imagekeep makes them ─┐
                                                                                ├──> stuck, lost, stays
    containerd's CRI       ──> ListImages: images and their names               ┘

The service keeps its images in memory, updates them from events, and rereads the records only when containerd
starts. Until then its mistakes last (containerd issues 14080 and 7698). Both can be read over the same socket, so
they can be compared without a restart.
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
from imagekeep.sync import is_of_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from imagekeep.store import Store

CALL_TIMEOUT: Final = 10.0
"""Seconds for ListImages, which answers from memory."""

PAUSE: Final = 0.25
"""Seconds between two comparisons. The service shows a new record about 4 ms after containerd has it."""


class Fault(enum.StrEnum):
    """How the service differs from containerd's records."""

    STUCK = "stuck"
    """It lists an image that no record names."""

    LOST = "lost"
    """It does not show a name that a record has, or an image whose records are only named by ids."""

    LINGERING = "stays"
    """It shows a name for an image that no record gives it."""


class Stale(NamedTuple):
    """A difference: a tag or a digest, or an image id if the image has neither."""

    name: str
    fault: Fault
    image_id: str


class Recorded(NamedTuple):
    """containerd's records: the references of each image id, and those whose image cannot be read."""

    references: Mapping[str, AbstractSet[str]]
    unread: AbstractSet[str] = frozenset()


def find_stale(store: Store, pause: float = PAUSE) -> list[Stale]:
    """Compare what the CRI of a store's containerd shows with what its records say; in order of names.

    What differs is looked at again after `pause` seconds, and what differed both times is returned: the service
    may be about to follow. Nothing is changed, in the store neither. Pins are not compared: containerd 1.6 does
    not report them. Raises FailedPreconditionError for a source that has no CRI, SourceUnsupportedError where
    containerd's CRI plugin is off, and as the source does.
    """
    socket = cri_socket_of(require_source(store))
    if socket is None:
        raise FailedPreconditionError(
            f"only containerd has a CRI of its own to ask, of the namespace {DEFAULT_NAMESPACE}"
        )
    with closing(Connection(socket, DEFAULT_NAMESPACE)) as connection:
        first = compare(_shown(connection), _recorded(store))
        if not first:
            return []
        time.sleep(pause)
        return sorted(first & compare(_shown(connection), _recorded(store)))


def compare(shown: Mapping[str, AbstractSet[str]], recorded: Recorded) -> set[Stale]:
    """Compare the names that the service shows for each image id with what the records say.

    An image that cannot be read is shown by the service or not, depending on when it was broken: its names are
    taken for neither lost nor stale.
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
    """Ask the service for its images; return the names of each id."""
    try:
        answer = connection.call(LIST_IMAGES, LIST_IMAGES.request(), timeout=CALL_TIMEOUT)
    except SourceUnsupportedError as error:
        raise SourceUnsupportedError(
            f"containerd at {printable(connection.path)} has no CRI image service (runtime.v1): is its plugin off?"
        ) from error
    return {image.id: {*image.repo_tags, *image.repo_digests} for image in answer.images}


def _recorded(store: Store) -> Recorded:
    """Ask for containerd's records; read the images that the store does not know."""
    states = store.states()
    ids = TargetIds(store)
    references: dict[str, set[str]] = {}
    unread = set()
    for record in require_source(store).records():
        try:
            image_id = state_at_source(store, states.get(record.reference), record, ids).image_id
        except ImagekeepError as error:
            if is_of_source(error):
                raise
            unread.add(record.reference)
        else:
            references.setdefault(image_id, set()).add(record.reference)
    return Recorded(references, unread)

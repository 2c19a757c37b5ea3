"""`runtime.v1.ImageService`, answered from the store.

The semantics are containerd's (internal/cri/server/images): an image is found by its id, a reference in any
spelling, or a truncated id. Status replies with nothing for an unknown image, and removing one succeeds. Lists
ignore their filter unless configured otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from imagekeep.cri.handlers import Code, RpcError, unresolved
from imagekeep.cri.listing import Listing, in_batches
from imagekeep.cri.messages import encode, reported_usage, status_reply, usage_reply, user_or_none
from imagekeep.cri.protocol import IMAGE_FS_INFO, IMAGE_STATUS, PULL_IMAGE, REMOVE_IMAGE
from imagekeep.errors import AmbiguousError, ImagekeepError, ImageNotFoundError, InvalidArgumentError
from imagekeep.reader_internals import data_version, image_filesystem, local_resolve
from imagekeep.times import timestamp
from imagekeep.watcher_status import FilesystemUsage

if TYPE_CHECKING:
    from imagekeep.cri.cri_proxy import CriProxy
    from imagekeep.cri.handlers import Call
    from imagekeep.cri.mutations import Mutations
    from imagekeep.image import Image
    from imagekeep.protobuf import cri_pb2 as cri
    from imagekeep.reader import Reader

log = logging.getLogger("imagekeep.cri")

USAGE_WAIT: Final = 1.0
"""Timeout in seconds for the source's usage, which takes a millisecond; crictl waits two seconds."""

RECORD_INTERVAL: Final = 60.0
"""Seconds between two records of usage. A kubelet asks every 10 s, and each record costs an fsync."""

STATUSES_MAX: Final = 4096
"""Maximum cached replies to ImageStatus: about 2 MB, as most are half a kilobyte."""

STATUS_BYTES_MAX: Final = 4096
"""Maximum size of a cached reply; an image may have any number of references."""

PULLS_MAX: Final = 64
"""Maximum concurrent pulls; each holds its request. A kubelet pulls one image at a time, or ten."""


class ImageService:
    """Answers the image service's calls: reads on the event loop, the others through `mutations` and `proxy`.

    `proxy` is None if the source has no CRI; ImageFsInfo then reports `mountpoint`. With `filter_images`, lists
    honor their filter.
    """

    def __init__(
        self,
        reader: Reader,
        mutations: Mutations,
        proxy: CriProxy | None,
        *,
        mountpoint: str,
        filter_images: bool = False,
    ) -> None:
        self._reader = reader
        self._mutations = mutations
        self._proxy = proxy
        self._mountpoint = mountpoint
        self._filter_images = filter_images
        self._listing = Listing(reader)
        self._statuses = _Statuses(reader)
        self._pulls = 0
        self._record_at = 0.0
        self._recording: asyncio.Task[None] | None = None
        self._usage: cri.ImageFsInfoResponse | None = None

    async def list_images(self, request: cri.ListImagesRequest, call: Call) -> bytes:
        """Answer ListImages with one snapshot of all images, ordered by id."""
        chosen = self._chosen(request)
        return await self._listing.reply() if chosen is None else b"".join(chosen)

    async def stream_images(self, request: cri.StreamImagesRequest, call: Call) -> list[bytes]:
        """Answer StreamImages: the same in batches, none if there are no images."""
        chosen = self._chosen(request)
        return await self._listing.batches() if chosen is None else in_batches(chosen)

    async def image_status(
        self, request: cri.ImageStatusRequest, call: Call
    ) -> cri.ImageStatusResponse | bytes:
        """Answer ImageStatus, with an empty reply for an unknown image."""
        name, kept = request.image.image, self._statuses.current()
        if not request.verbose and name in kept:
            return kept[name]
        image = self._resolve(name)
        if image is None:
            return IMAGE_STATUS.response()
        reply = status_reply(image, user_or_none(image), verbose=request.verbose)
        if not request.verbose and len(kept) < STATUSES_MAX and reply.ByteSize() <= STATUS_BYTES_MAX:
            kept[name] = reply.SerializeToString()
        return reply

    async def remove_image(self, request: cri.RemoveImageRequest, call: Call) -> cri.RemoveImageResponse:
        """Answer RemoveImage: remove every reference at the source; succeed for an unknown image."""
        image = self._resolve(request.image.image)
        if image is not None:
            await self._mutations.remove(image)
        return REMOVE_IMAGE.response()

    async def pull_image(self, request: cri.PullImageRequest, call: Call) -> cri.PullImageResponse:
        """Answer PullImage: containerd pulls, and the store is updated before the reply.

        The request is forwarded unchanged. It may contain a password and must not be logged.
        """
        if self._proxy is None:
            raise RpcError(
                Code.UNIMPLEMENTED,
                "imagekeep forwards pulls to its source's CRI, and this source has none",
            )
        if self._pulls >= PULLS_MAX:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"{PULLS_MAX} pulls are in progress; try again")
        self._pulls += 1
        try:
            reply = await self._proxy.ask(PULL_IMAGE, request, timeout=call.time_remaining())
        finally:
            self._pulls -= 1
        await self._mutations.follow_pull(request.image.image, reply.image_ref)
        return reply

    async def image_fs_info(self, request: cri.ImageFsInfoRequest, call: Call) -> cri.ImageFsInfoResponse:
        """Answer ImageFsInfo with the reply of the source's CRI, or without one with its last known usage.

        Never fails because of the source: a kubelet and crictl call this first to detect an image service
        (cri-client, validateServiceConnection). If the source's CRI does not answer, the reply is its last one,
        taken from the store after a restart; its timestamp shows its age. With no known usage, the reply is an
        entry of zeros.
        """
        if self._proxy is not None:
            try:
                reply = await self._proxy.ask(IMAGE_FS_INFO, request, timeout=USAGE_WAIT)
            except RpcError as refusal:
                log.debug("no usage from the source: %s %s", refusal.code.name, refusal.message)
            else:
                self._usage = reply
                self._record(reported_usage(reply))
        if self._usage is not None:
            return self._usage
        recorded = image_filesystem(self._reader)
        return usage_reply(recorded or FilesystemUsage(self._mountpoint, None, None, timestamp()))

    def _record(self, usage: FilesystemUsage | None) -> None:
        """Record usage in the store every RECORD_INTERVAL, in the background; only log failures."""
        now = time.monotonic()
        if usage is None or now < self._record_at:
            return
        self._record_at = now + RECORD_INTERVAL
        self._recording = asyncio.create_task(self._try_to_record(usage))

    async def _try_to_record(self, usage: FilesystemUsage) -> None:
        try:
            await self._mutations.record_usage(usage)
        except (ImagekeepError, RpcError, RuntimeError) as error:  # the last at shutdown
            log.debug("cannot record the usage of the source's filesystem: %s", error)

    def _chosen(self, request: cri.ListImagesRequest | cri.StreamImagesRequest) -> list[bytes] | None:
        """Return the encoded images that a filter selects, or None if the list is unfiltered."""
        wanted = request.filter.image.image if self._filter_images else ""
        if not wanted:
            return None
        image = self._resolve(wanted)
        return [] if image is None else [encode(image, user_or_none(image))]

    def _resolve(self, name: str) -> Image | None:
        """Return the image that a name refers to, or None (containerd: LocalResolve)."""
        try:
            return local_resolve(self._reader, name)
        except ImageNotFoundError:
            return None
        except (AmbiguousError, InvalidArgumentError) as error:
            raise unresolved(name, error) from error


class _Statuses:
    """A cache of encoded replies to ImageStatus by requested name, valid until the store changes."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._version: int | None = None
        self._replies: dict[str, bytes] = {}

    def current(self) -> dict[str, bytes]:
        """Return the valid replies; the caller may add new ones."""
        version = data_version(self._reader)
        if version != self._version:
            self._version, self._replies = version, {}
        return self._replies

"""Builds the CRI's messages as containerd does (internal/cri/server/images); does no I/O."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from imagekeep.cri.protocol import IMAGE_FS_INFO, IMAGE_STATUS, Image
from imagekeep.cri.protocol import FilesystemUsage as FilesystemMessage
from imagekeep.errors import InvalidDocumentError
from imagekeep.oci.gojson import decode, parse, struct, text
from imagekeep.oci.user import split_user
from imagekeep.watcher_status import FilesystemUsage

if TYPE_CHECKING:
    from imagekeep.image import Image as StoredImage
    from imagekeep.image import ImageSummary
    from imagekeep.protobuf import cri_pb2 as cri

UNSIGNED_MASK: Final = 2**64 - 1
SIGNED_MAX: Final = 2**63 - 1

_USER_ONLY: Final = struct({"config": struct({"User": text})})

_ESCAPES: Final = str.maketrans(
    {character: f"\\u{ord(character):04x}" for character in ("<", ">", "&", "\u2028", "\u2029")}
)
"""Characters that Go escapes though JSON does not require it (encoding/json, HTMLEscape)."""


class User(NamedTuple):
    """The user of an image's processes: a uid, a name, or neither."""

    uid: int | None = None
    username: str = ""


def user_of(config_json: bytes, image_id: str) -> User:
    """Return the user in a config, decoding nothing else; raises InvalidDocumentError."""
    fields = decode(_USER_ONLY, parse(config_json, image_id), image_id)
    return User(*split_user(fields.get("config", {}).get("User", "")))


def image_message(image: ImageSummary, user: User) -> cri.Image:
    """Return an image (containerd: toCRIImage); a negative size is converted to unsigned, as in Go."""
    message = Image(
        id=image.id,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        size=image.size & UNSIGNED_MASK,
        username=user.username,
        pinned=image.pinned,
    )
    if user.uid is not None:
        message.uid.value = user.uid  # set explicitly, so that uid 0 is sent too
    return message


def status_reply(image: StoredImage, user: User, *, verbose: bool) -> cri.ImageStatusResponse:
    """Return the reply to ImageStatus; raises InvalidDocumentError if `verbose` needs an unreadable config."""
    info = {"info": info_document(image)} if verbose else {}
    return IMAGE_STATUS.response(image=image_message(image, user), info=info)


def info_document(image: StoredImage) -> str:
    """Return the JSON that containerd adds to a verbose reply (toCRIImageInfo)."""
    document = {"chainID": image.chain_id, "imageSpec": image.config}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


def usage_reply(usage: FilesystemUsage) -> cri.ImageFsInfoResponse:
    """Return the reply to ImageFsInfo for recorded usage (imagefs_info.go)."""
    message = FilesystemMessage(timestamp=usage.at * 1000)
    message.fs_id.mountpoint = usage.mountpoint
    # Set even if unknown, as containerd does.
    message.used_bytes.value = usage.used_bytes or 0
    message.inodes_used.value = usage.inodes_used or 0
    return IMAGE_FS_INFO.response(image_filesystems=[message])


def reported_usage(reply: cri.ImageFsInfoResponse) -> FilesystemUsage | None:
    """Return the usage of a reply's first filesystem, or None if it has none or out-of-range numbers."""
    for message in reply.image_filesystems[:1]:
        used, inodes = message.used_bytes.value, message.inodes_used.value
        if message.timestamp >= 0 and max(used, inodes) <= SIGNED_MAX:
            return FilesystemUsage(message.fs_id.mountpoint, used, inodes, message.timestamp // 1000)
    return None


def user_or_none(image: StoredImage) -> User:
    """Return the user of an image, or an empty one if its config is invalid, so that the list does not fail."""
    try:
        return user_of(image.config_json, image.id)
    except InvalidDocumentError:
        return User()


def encode(image: ImageSummary, user: User) -> bytes:
    """Return an image encoded as an element of field 1 of a list's reply."""
    message: bytes = image_message(image, user).SerializeToString()
    return b"\x0a" + _varint(len(message)) + message


def _varint(number: int) -> bytes:
    """Return a protobuf varint: seven bits per byte, lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)

"""The config document of an image (image-spec v1.1.1, config), as Go reads and writes it.

The result has the fields of image-spec's Go types, in their order, without the empty ones that Go omits. So its
`json.dumps` is containerd's JSON of the same image, except for white space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, NotRequired, TypedDict, cast

from imagekeep.oci.documents import platform_of
from imagekeep.oci.gojson import (
    Mismatch,
    Node,
    Reason,
    Shape,
    boolean,
    decode,
    list_of,
    map_of,
    parse,
    struct,
    text,
)
from imagekeep.oci.timestamp import reformat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagekeep.platform import Platform

HISTORY_LIMIT: Final = 100_000
"""Maximum number of history entries in a config: real images have a thousandth; millions would fit."""

Empty = TypedDict("Empty", {})  # noqa: UP013 - beside the functional form below
"""An object without fields: what Go keeps of each value in a set."""

_PlatformFields = TypedDict(
    "_PlatformFields",
    {
        "architecture": str,
        "os": str,
        "os.version": NotRequired[str],
        "os.features": NotRequired[list[str]],
        "variant": NotRequired[str],
    },
)


class ExecutionConfig(TypedDict, total=False):
    """How a container of the image runs unless told otherwise (image-spec: ImageConfig)."""

    User: str
    ExposedPorts: dict[str, Empty]
    Env: list[str]
    Entrypoint: list[str]
    Cmd: list[str]
    Volumes: dict[str, Empty]
    WorkingDir: str
    Labels: dict[str, str]
    StopSignal: str
    ArgsEscaped: bool


class RootFS(TypedDict):
    """The layers, lowest first, by the digests of their uncompressed content; None without a list."""

    type: str
    diff_ids: list[str] | None


class HistoryEntry(TypedDict, total=False):
    """One step of the build."""

    created: str
    created_by: str
    author: str
    comment: str
    empty_layer: bool


class ImageConfig(_PlatformFields):
    """The whole config document (image-spec: Image); `created` is a time as Go writes it."""

    created: NotRequired[str]
    author: NotRequired[str]
    config: ExecutionConfig
    rootfs: RootFS
    history: NotRequired[list[HistoryEntry]]


def parse_config(document: bytes, name: str) -> ImageConfig:
    """Decode a config document as containerd does (core/images: RootFS).

    `name` is what errors call the document: its digest, or a file's name. Raises InvalidDocumentError, whose
    message names the field, and never a value: an environment may hold secrets.
    """
    return _encode(decode(_IMAGE, parse(document, name), name))


class RootFilesystem(NamedTuple):
    """The platform of a config as it stands there, and its diff ids, lowest first.

    A diff id is the digest of a layer's uncompressed content; it is not validated.
    """

    platform: Platform
    diff_ids: tuple[str, ...]


def parse_root_filesystem(document: bytes, name: str) -> RootFilesystem:
    """Return what a config says of its platform and layers (core/images: RootFS).

    The whole document is checked; raises as `parse_config` does.
    """
    fields = decode(_IMAGE, parse(document, name), name)
    rootfs = fields.get("rootfs", {})
    return RootFilesystem(platform_of(fields), tuple(rootfs.get("diff_ids") or ()))


def _created(node: Node, previous: str | None) -> str | None:
    """Decode a pointer to a Go time.Time, as Go would write it again."""
    if node is None:
        return None
    try:
        return reformat(text(node, previous))
    except ValueError as error:
        raise Mismatch(str(error), Reason.TIME) from None


_texts: Final = list_of(text)
_EMPTY: Final = struct({})

_EXECUTION: Final[dict[str, Shape[Any]]] = {
    "User": text,
    "ExposedPorts": map_of(_EMPTY),
    "Env": _texts,
    "Entrypoint": _texts,
    "Cmd": _texts,
    "Volumes": map_of(_EMPTY),
    "WorkingDir": text,
    "Labels": map_of(text),
    "StopSignal": text,
    "ArgsEscaped": boolean,
}
_HISTORY: Final[dict[str, Shape[Any]]] = {
    "created": _created,
    "created_by": text,
    "author": text,
    "comment": text,
    "empty_layer": boolean,
}
_IMAGE: Final = struct(
    {
        "created": _created,
        "author": text,
        "architecture": text,
        "os": text,
        "os.version": text,
        "os.features": _texts,
        "variant": text,
        "config": struct(_EXECUTION),
        "rootfs": struct({"type": text, "diff_ids": _texts}),
        "history": list_of(struct(_HISTORY), HISTORY_LIMIT),
    }
)


def _encode(fields: dict[str, Any]) -> ImageConfig:
    """Return the fields that were read in the order, and with the omissions, of Go's encoder."""
    rootfs = fields.get("rootfs", {})
    encoded = {
        **_without_empty(fields, ("created", "author")),
        "architecture": fields.get("architecture", ""),
        "os": fields.get("os", ""),
        **_without_empty(fields, ("os.version", "os.features", "variant")),
        "config": _without_empty(fields.get("config", {}), _EXECUTION),
        "rootfs": {"type": rootfs.get("type", ""), "diff_ids": rootfs.get("diff_ids")},
    }
    if history := fields.get("history"):
        encoded["history"] = [_without_empty(entry, _HISTORY) for entry in history]
    return cast("ImageConfig", encoded)


def _without_empty(fields: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the named fields that are not empty, in the order of the names; maps sorted as Go does."""
    return {
        name: dict(sorted(value.items())) if type(value) is dict else value
        for name in names
        if (value := fields.get(name))
    }

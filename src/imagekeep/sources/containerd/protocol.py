"""The methods of containerd that imagekeep calls (`imagekeep/protobuf/containerd_*.proto`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imagekeep.protobuf import Schema

if TYPE_CHECKING:
    from google.protobuf.empty_pb2 import Empty

    from imagekeep.protobuf import Method
    from imagekeep.protobuf import containerd_content_pb2 as content
    from imagekeep.protobuf import containerd_events_pb2 as events
    from imagekeep.protobuf import containerd_images_pb2 as images
    from imagekeep.protobuf import containerd_namespaces_pb2 as namespaces
    from imagekeep.protobuf import containerd_version_pb2 as version

    Event = events.ImageCreate | events.ImageUpdate | events.ImageDelete

SCHEMA: Final = Schema.load("containerd")

_IMAGES = "/containerd.services.images.v1.Images"
_CONTENT = "/containerd.services.content.v1.Content"

GET_IMAGE: Final[Method[images.GetImageRequest, images.GetImageResponse]] = SCHEMA.methods[f"{_IMAGES}/Get"]
LIST_IMAGES: Final[Method[images.ListImagesRequest, images.ListImagesResponse]] = SCHEMA.methods[
    f"{_IMAGES}/List"
]
UPDATE_IMAGE: Final[Method[images.UpdateImageRequest, images.UpdateImageResponse]] = SCHEMA.methods[
    f"{_IMAGES}/Update"
]
DELETE_IMAGE: Final[Method[images.DeleteImageRequest, Empty]] = SCHEMA.methods[f"{_IMAGES}/Delete"]
CONTENT_INFO: Final[Method[content.InfoRequest, content.InfoResponse]] = SCHEMA.methods[f"{_CONTENT}/Info"]
READ_CONTENT: Final[Method[content.ReadContentRequest, content.ReadContentResponse]] = SCHEMA.methods[
    f"{_CONTENT}/Read"
]
SUBSCRIBE: Final[Method[events.SubscribeRequest, events.Envelope]] = SCHEMA.methods[
    "/containerd.services.events.v1.Events/Subscribe"
]
LIST_NAMESPACES: Final[Method[namespaces.ListNamespacesRequest, namespaces.ListNamespacesResponse]] = (
    SCHEMA.methods["/containerd.services.namespaces.v1.Namespaces/List"]
)
VERSION: Final[Method[Empty, version.VersionResponse]] = SCHEMA.methods[
    "/containerd.services.version.v1.Version/Version"
]

EVENT_MESSAGES: Final[dict[str, type[Event]]] = {
    name: SCHEMA.messages[f"containerd.services.events.v1.{name}"]
    for name in ("ImageCreate", "ImageUpdate", "ImageDelete")
}

"""The methods of containerd that imagekeep calls (`imagekeep/protobuf/containerd_*.proto`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imagekeep.protobuf import Schema

if TYPE_CHECKING:
    from google.protobuf.empty_pb2 import Empty

    from imagekeep.protobuf import Method
    from imagekeep.protobuf import containerd_containers_pb2 as containers
    from imagekeep.protobuf import containerd_content_pb2 as content
    from imagekeep.protobuf import containerd_events_pb2 as events
    from imagekeep.protobuf import containerd_images_pb2 as images
    from imagekeep.protobuf import containerd_namespaces_pb2 as namespaces
    from imagekeep.protobuf import containerd_snapshots_pb2 as snapshots
    from imagekeep.protobuf import containerd_tasks_pb2 as tasks
    from imagekeep.protobuf import containerd_version_pb2 as version

    ImageMessage = events.ImageCreate | events.ImageUpdate | events.ImageDelete
    ContainerMessage = events.ContainerCreate | events.ContainerUpdate | events.ContainerDelete

SCHEMA: Final = Schema.load("containerd")

_IMAGES = "/containerd.services.images.v1.Images"
_CONTENT = "/containerd.services.content.v1.Content"
_SNAPSHOTS = "/containerd.services.snapshots.v1.Snapshots"
_TASKS = "/containerd.services.tasks.v1.Tasks"

GET_IMAGE: Final[Method[images.GetImageRequest, images.GetImageResponse]] = SCHEMA.methods[f"{_IMAGES}/Get"]
LIST_IMAGES: Final[Method[images.ListImagesRequest, images.ListImagesResponse]] = SCHEMA.methods[
    f"{_IMAGES}/List"
]
UPDATE_IMAGE: Final[Method[images.UpdateImageRequest, images.UpdateImageResponse]] = SCHEMA.methods[
    f"{_IMAGES}/Update"
]
DELETE_IMAGE: Final[Method[images.DeleteImageRequest, Empty]] = SCHEMA.methods[f"{_IMAGES}/Delete"]
CONTENT_INFO: Final[Method[content.InfoRequest, content.InfoResponse]] = SCHEMA.methods[f"{_CONTENT}/Info"]
LIST_CONTENT: Final[Method[content.ListContentRequest, content.ListContentResponse]] = SCHEMA.methods[
    f"{_CONTENT}/List"
]
READ_CONTENT: Final[Method[content.ReadContentRequest, content.ReadContentResponse]] = SCHEMA.methods[
    f"{_CONTENT}/Read"
]
LIST_CONTAINERS: Final[Method[containers.ListContainersRequest, containers.ListContainerMessage]] = (
    SCHEMA.methods["/containerd.services.containers.v1.Containers/ListStream"]
)
GET_TASK: Final[Method[tasks.GetRequest, tasks.GetResponse]] = SCHEMA.methods[f"{_TASKS}/Get"]
LIST_TASKS: Final[Method[tasks.ListTasksRequest, tasks.ListTasksResponse]] = SCHEMA.methods[f"{_TASKS}/List"]
SNAPSHOT_INFO: Final[Method[snapshots.StatSnapshotRequest, snapshots.StatSnapshotResponse]] = SCHEMA.methods[
    f"{_SNAPSHOTS}/Stat"
]
LIST_SNAPSHOTS: Final[Method[snapshots.ListSnapshotsRequest, snapshots.ListSnapshotsResponse]] = (
    SCHEMA.methods[f"{_SNAPSHOTS}/List"]
)
SNAPSHOT_USAGE: Final[Method[snapshots.UsageRequest, snapshots.UsageResponse]] = SCHEMA.methods[
    f"{_SNAPSHOTS}/Usage"
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

_EVENTS = "containerd.services.events.v1"

IMAGE_MESSAGES: Final[dict[str, type[ImageMessage]]] = {
    f"/images/{change}": SCHEMA.messages[f"{_EVENTS}.Image{change.title()}"]
    for change in ("create", "update", "delete")
}
"""The message of each topic about a record."""

CONTAINER_MESSAGES: Final[dict[str, type[ContainerMessage]]] = {
    f"/containers/{change}": SCHEMA.messages[f"{_EVENTS}.Container{change.title()}"]
    for change in ("create", "update", "delete")
}
"""The message of each topic about a container."""

TASK_START: Final[type[events.TaskStart]] = SCHEMA.messages[f"{_EVENTS}.TaskStart"]
TASK_EXIT: Final[type[events.TaskExit]] = SCHEMA.messages[f"{_EVENTS}.TaskExit"]

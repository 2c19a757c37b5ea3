"""The CRI methods and messages that imagekeep uses (`imagekeep/protobuf/cri.proto`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imagekeep.protobuf import Schema

if TYPE_CHECKING:
    from imagekeep.protobuf import Method
    from imagekeep.protobuf import cri_pb2 as cri

SCHEMA: Final = Schema.load("cri")

_IMAGES = "/runtime.v1.ImageService"
_RUNTIME = "/runtime.v1.RuntimeService"

LIST_IMAGES: Final[Method[cri.ListImagesRequest, cri.ListImagesResponse]] = SCHEMA.methods[
    f"{_IMAGES}/ListImages"
]
STREAM_IMAGES: Final[Method[cri.StreamImagesRequest, cri.StreamImagesResponse]] = SCHEMA.methods[
    f"{_IMAGES}/StreamImages"
]
IMAGE_STATUS: Final[Method[cri.ImageStatusRequest, cri.ImageStatusResponse]] = SCHEMA.methods[
    f"{_IMAGES}/ImageStatus"
]
PULL_IMAGE: Final[Method[cri.PullImageRequest, cri.PullImageResponse]] = SCHEMA.methods[
    f"{_IMAGES}/PullImage"
]
REMOVE_IMAGE: Final[Method[cri.RemoveImageRequest, cri.RemoveImageResponse]] = SCHEMA.methods[
    f"{_IMAGES}/RemoveImage"
]
IMAGE_FS_INFO: Final[Method[cri.ImageFsInfoRequest, cri.ImageFsInfoResponse]] = SCHEMA.methods[
    f"{_IMAGES}/ImageFsInfo"
]
VERSION: Final[Method[cri.VersionRequest, cri.VersionResponse]] = SCHEMA.methods[f"{_RUNTIME}/Version"]
STATUS: Final[Method[cri.StatusRequest, cri.StatusResponse]] = SCHEMA.methods[f"{_RUNTIME}/Status"]

Image: type[cri.Image] = SCHEMA.messages["runtime.v1.Image"]
FilesystemUsage: type[cri.FilesystemUsage] = SCHEMA.messages["runtime.v1.FilesystemUsage"]
RuntimeCondition: type[cri.RuntimeCondition] = SCHEMA.messages["runtime.v1.RuntimeCondition"]

"""The part of the CRI that imagekeep serves; the numbers are those of the CRI API's `runtime/v1/api.proto`.

What is not declared is passed over, and kept where a message is handed on: a pull's `sandbox_config` reaches
containerd as it came.
"""

from __future__ import annotations

from imagekeep.protobuf import Schema

SCHEMA = Schema("""
package runtime.v1;

message ImageSpec {
    string image = 1;
    map<string, string> annotations = 2;
    string user_specified_image = 18;
    string runtime_handler = 19;
}
message Int64Value { int64 value = 1; }
message UInt64Value { uint64 value = 1; }
message Image {
    string id = 1;
    repeated string repo_tags = 2;
    repeated string repo_digests = 3;
    uint64 size = 4;
    Int64Value uid = 5;
    string username = 6;
    ImageSpec spec = 7;
    bool pinned = 8;
}
message ImageFilter { ImageSpec image = 1; }
message ListImagesRequest { ImageFilter filter = 1; }
message ListImagesResponse { repeated Image images = 1; }
message StreamImagesRequest { ImageFilter filter = 1; }
message StreamImagesResponse { repeated Image images = 1; }
message ImageStatusRequest { ImageSpec image = 1; bool verbose = 2; }
message ImageStatusResponse { Image image = 1; map<string, string> info = 2; }
message AuthConfig {
    string username = 1;
    string password = 2;
    string auth = 3;
    string server_address = 4;
    string identity_token = 5;
    string registry_token = 6;
}
message PullImageRequest { ImageSpec image = 1; AuthConfig auth = 2; }
message PullImageResponse { string image_ref = 1; }
message RemoveImageRequest { ImageSpec image = 1; }
message RemoveImageResponse {}
message ImageFsInfoRequest {}
message FilesystemIdentifier { string mountpoint = 1; }
message FilesystemUsage {
    int64 timestamp = 1;
    FilesystemIdentifier fs_id = 2;
    UInt64Value used_bytes = 3;
    UInt64Value inodes_used = 4;
}
message ImageFsInfoResponse {
    repeated FilesystemUsage image_filesystems = 1;
    repeated FilesystemUsage container_filesystems = 2;
}
service ImageService {
    rpc ListImages(ListImagesRequest) returns (ListImagesResponse);
    rpc StreamImages(StreamImagesRequest) returns (stream StreamImagesResponse);
    rpc ImageStatus(ImageStatusRequest) returns (ImageStatusResponse);
    rpc PullImage(PullImageRequest) returns (PullImageResponse);
    rpc RemoveImage(RemoveImageRequest) returns (RemoveImageResponse);
    rpc ImageFsInfo(ImageFsInfoRequest) returns (ImageFsInfoResponse);
}

message VersionRequest { string version = 1; }
message VersionResponse {
    string version = 1;
    string runtime_name = 2;
    string runtime_version = 3;
    string runtime_api_version = 4;
}
message StatusRequest { bool verbose = 1; }
message RuntimeCondition { string type = 1; bool status = 2; string reason = 3; string message = 4; }
message RuntimeStatus { repeated RuntimeCondition conditions = 1; }
message StatusResponse { RuntimeStatus status = 1; map<string, string> info = 2; }
service RuntimeService {
    rpc Version(VersionRequest) returns (VersionResponse);
    rpc Status(StatusRequest) returns (StatusResponse);
}
""")

_IMAGES = "/runtime.v1.ImageService"
_RUNTIME = "/runtime.v1.RuntimeService"

LIST_IMAGES = SCHEMA.methods[f"{_IMAGES}/ListImages"]
STREAM_IMAGES = SCHEMA.methods[f"{_IMAGES}/StreamImages"]
IMAGE_STATUS = SCHEMA.methods[f"{_IMAGES}/ImageStatus"]
PULL_IMAGE = SCHEMA.methods[f"{_IMAGES}/PullImage"]
REMOVE_IMAGE = SCHEMA.methods[f"{_IMAGES}/RemoveImage"]
IMAGE_FS_INFO = SCHEMA.methods[f"{_IMAGES}/ImageFsInfo"]
VERSION = SCHEMA.methods[f"{_RUNTIME}/Version"]
STATUS = SCHEMA.methods[f"{_RUNTIME}/Status"]

Image = SCHEMA.messages["runtime.v1.Image"]
FilesystemUsage = SCHEMA.messages["runtime.v1.FilesystemUsage"]
RuntimeCondition = SCHEMA.messages["runtime.v1.RuntimeCondition"]

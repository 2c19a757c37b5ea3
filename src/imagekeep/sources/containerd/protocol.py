"""The part of containerd's gRPC services that imagekeep uses; the numbers are those of containerd's `.proto` files.

Two types differ, and are the same on the wire: names and labels are bytes here where containerd says string, and
labels are a list of pairs where it says map<string, string>. containerd 1.6 lets in names and labels that are no
UTF-8, and a single one would make the whole listing unreadable.
"""

from __future__ import annotations

from imagekeep.protobuf import Schema

SCHEMA = Schema("""
package google.protobuf;

message Timestamp { int64 seconds = 1; int32 nanos = 2; }
message Any { string type_url = 1; bytes value = 2; }
message FieldMask { repeated string paths = 1; }
message Empty {}

package containerd.types;

message Descriptor { string media_type = 1; string digest = 2; int64 size = 3; }

package containerd.services.images.v1;

message Label { bytes key = 1; bytes value = 2; }
message Image {
    bytes name = 1;
    repeated Label labels = 2;
    containerd.types.Descriptor target = 3;
}
message GetImageRequest { bytes name = 1; }
message GetImageResponse { Image image = 1; }
message ListImagesRequest { repeated string filters = 1; }
message ListImagesResponse { repeated Image images = 1; }
message UpdateImageRequest { Image image = 1; google.protobuf.FieldMask update_mask = 2; }
message UpdateImageResponse { Image image = 1; }
message DeleteImageRequest { bytes name = 1; bool sync = 2; }

service Images {
    rpc Get(GetImageRequest) returns (GetImageResponse);
    rpc List(ListImagesRequest) returns (ListImagesResponse);
    rpc Update(UpdateImageRequest) returns (UpdateImageResponse);
    rpc Delete(DeleteImageRequest) returns (google.protobuf.Empty);
}

package containerd.services.content.v1;

message Info { string digest = 1; int64 size = 2; }
message InfoRequest { string digest = 1; }
message InfoResponse { Info info = 1; }
message ReadContentRequest { string digest = 1; int64 offset = 2; int64 size = 3; }
message ReadContentResponse { int64 offset = 1; bytes data = 2; }

service Content {
    rpc Info(InfoRequest) returns (InfoResponse);
    rpc Read(ReadContentRequest) returns (stream ReadContentResponse);
}

package containerd.services.events.v1;

message SubscribeRequest { repeated string filters = 1; }
message Envelope {
    google.protobuf.Timestamp timestamp = 1;
    string namespace = 2;
    string topic = 3;
    google.protobuf.Any event = 4;
}
message ImageCreate { bytes name = 1; }
message ImageUpdate { bytes name = 1; }
message ImageDelete { bytes name = 1; }

service Events {
    rpc Subscribe(SubscribeRequest) returns (stream Envelope);
}

package containerd.services.namespaces.v1;

message Namespace { string name = 1; }
message ListNamespacesRequest { string filter = 1; }
message ListNamespacesResponse { repeated Namespace namespaces = 1; }

service Namespaces {
    rpc List(ListNamespacesRequest) returns (ListNamespacesResponse);
}

package containerd.services.version.v1;

message VersionResponse { string version = 1; string revision = 2; }

service Version {
    rpc Version(google.protobuf.Empty) returns (VersionResponse);
}
""")

EVENT_MESSAGES = {
    name: SCHEMA.messages[f"containerd.services.events.v1.{name}"]
    for name in ("ImageCreate", "ImageUpdate", "ImageDelete")
}

_IMAGES = "/containerd.services.images.v1.Images"
_CONTENT = "/containerd.services.content.v1.Content"

GET_IMAGE = SCHEMA.methods[f"{_IMAGES}/Get"]
LIST_IMAGES = SCHEMA.methods[f"{_IMAGES}/List"]
UPDATE_IMAGE = SCHEMA.methods[f"{_IMAGES}/Update"]
DELETE_IMAGE = SCHEMA.methods[f"{_IMAGES}/Delete"]
CONTENT_INFO = SCHEMA.methods[f"{_CONTENT}/Info"]
READ_CONTENT = SCHEMA.methods[f"{_CONTENT}/Read"]
SUBSCRIBE = SCHEMA.methods["/containerd.services.events.v1.Events/Subscribe"]
LIST_NAMESPACES = SCHEMA.methods["/containerd.services.namespaces.v1.Namespaces/List"]
VERSION = SCHEMA.methods["/containerd.services.version.v1.Version/Version"]

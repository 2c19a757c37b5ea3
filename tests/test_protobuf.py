"""The protocols' descriptor sets: a pool of their own each, and protobuf's own types where those are meant."""

from __future__ import annotations

import pytest
from google.protobuf import any_pb2, descriptor_pool, empty_pb2, field_mask_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from imagekeep.cri.protocol import IMAGE_STATUS, LIST_IMAGES, PULL_IMAGE, STREAM_IMAGES
from imagekeep.protobuf import Schema, decode
from imagekeep.sources.containerd import protocol


def test_a_method_has_its_path_its_messages_and_whether_it_streams() -> None:
    assert (LIST_IMAGES.path, LIST_IMAGES.streams) == ("/runtime.v1.ImageService/ListImages", False)
    assert LIST_IMAGES.service == "runtime.v1.ImageService"
    assert LIST_IMAGES.request.DESCRIPTOR.full_name == "runtime.v1.ListImagesRequest"
    assert LIST_IMAGES.response.DESCRIPTOR.full_name == "runtime.v1.ListImagesResponse"
    assert STREAM_IMAGES.streams


def test_a_pull_keeps_the_fields_that_are_not_declared() -> None:
    sandbox = b"\x1a\x05\x0a\x03\x0a\x01a"  # sandbox_config.metadata.name
    assert decode(PULL_IMAGE.request, sandbox).SerializeToString() == sandbox


def test_bytes_that_are_not_a_message_raise() -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(IMAGE_STATUS.request, b"\x0a\xff")


def test_the_process_may_have_other_messages_of_the_same_names() -> None:
    others = FileDescriptorProto(name="cri.proto", package="runtime.v1", syntax="proto3")
    others.message_type.add(name="Image").field.add(name="other", number=1, type=9, label=1)
    descriptor_pool.Default().Add(others)  # raises TypeError if imagekeep's were registered there
    own = Schema(FileDescriptorSet(file=[others]).SerializeToString()).messages["runtime.v1.Image"]
    assert own(other="x").SerializeToString() == b"\x0a\x01x"


@pytest.mark.parametrize(
    "known", [timestamp_pb2.Timestamp, any_pb2.Any, field_mask_pb2.FieldMask, empty_pb2.Empty]
)
def test_protobufs_own_messages_are_as_protobuf_has_them(known: type[timestamp_pb2.Timestamp]) -> None:
    ours, theirs = DescriptorProto(), DescriptorProto()
    protocol.SCHEMA.messages[known.DESCRIPTOR.full_name].DESCRIPTOR.CopyToProto(ours)
    known.DESCRIPTOR.CopyToProto(theirs)
    assert ours == theirs


def test_a_field_of_bytes_is_on_the_wire_what_one_of_text_is() -> None:
    name = protocol.GET_IMAGE.request(name="é".encode())
    assert name.SerializeToString() == wrappers_pb2.StringValue(value="é").SerializeToString()

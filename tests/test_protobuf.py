"""Schemas in the words of `.proto` files: what they make is what protobuf's own descriptors make."""

from __future__ import annotations

import pytest
from google.protobuf import any_pb2, descriptor_pb2, field_mask_pb2, timestamp_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from imagekeep.protobuf import Schema, decode
from imagekeep.sources.containerd import protocol

SCHEMA = Schema("""
// A comment, with a brace } in it.
package test.types;

message Amount { int64 value = 1; uint32 unit = 15; }

package test.shop.v1;

message Item {
    string name = 1;  // what it is called
    bytes picture = 2;
    bool sold = 3;
    test.types.Amount price = 4;
    repeated string words = 16;
    repeated Item parts = 17;
    map<string, string> labels = 18;
    map<string, test.types.Amount> prices = 19;
}
message Empty {}

service Shop {
    rpc Find(Empty) returns (Item);
    rpc Watch(Item) returns (stream test.types.Amount);
}
""")
Item = SCHEMA.messages["test.shop.v1.Item"]
Amount = SCHEMA.messages["test.types.Amount"]


def test_a_message_has_the_numbers_and_types_that_were_declared() -> None:
    item = Item(name="é", picture=b"\xff", sold=True, price=Amount(value=-1, unit=3), words=["a", "b"])
    price = b"\x08" + b"\xff" * 9 + b"\x01\x78\x03"
    assert item.SerializeToString() == (
        b"\x0a\x02\xc3\xa9\x12\x01\xff\x18\x01" + b"\x22\x0d" + price + b"\x82\x01\x01a\x82\x01\x01b"
    )


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**63), 2**63 - 1)),
)
def test_a_message_comes_back_as_it_was_encoded(name: str, prices: dict[str, int]) -> None:
    item = Item(name=name, labels={name: name}, parts=[Item(name=name)])
    for key, value in prices.items():
        item.prices[key].value = value
    read = decode(Item, item.SerializeToString())
    assert (read.name, dict(read.labels), read.parts[0].name) == (name, {name: name}, name)
    assert {key: amount.value for key, amount in read.prices.items()} == prices


def test_what_is_not_declared_is_passed_over() -> None:
    assert decode(SCHEMA.messages["test.shop.v1.Empty"], Item(name="x").SerializeToString()) is not None


def test_what_is_no_message_raises() -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(Item, b"\x0a\xff")


def test_a_method_has_its_path_its_messages_and_whether_it_streams() -> None:
    find, watch = SCHEMA.methods.values()
    assert (find.path, find.request, find.response, find.streams) == (
        "/test.shop.v1.Shop/Find",
        SCHEMA.messages["test.shop.v1.Empty"],
        Item,
        False,
    )
    assert (watch.path, watch.request, watch.response, watch.streams) == (
        "/test.shop.v1.Shop/Watch",
        Item,
        Amount,
        True,
    )


def test_two_schemas_may_declare_the_same_name() -> None:
    other = Schema("package test.types; message Amount { string text = 1; }")
    assert other.messages["test.types.Amount"](text="x").SerializeToString() == b"\x0a\x01x"


@pytest.mark.parametrize(
    "text",
    [
        "message Early {}",
        "package a; message M { float x = 1; } enum E {}",
        "package a; message M { string x; }",
        "package a; message M { string x = 1; oneof y { string z = 2; } }",
        "package a; service S { rpc Find(Missing) returns (Missing); }",
        "package a; message M {} service S { rpc Find(stream M) returns (M); }",
        "nonsense",
    ],
)
def test_a_text_that_is_not_of_the_language_raises(text: str) -> None:
    with pytest.raises(ValueError, match=r"not understood|begins with a package|not declared"):
        Schema(text)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("google.protobuf.Timestamp", timestamp_pb2.Timestamp),
        ("google.protobuf.Any", any_pb2.Any),
        ("google.protobuf.FieldMask", field_mask_pb2.FieldMask),
    ],
)
def test_protobufs_own_messages_are_declared_as_protobuf_has_them(name: str, known: type) -> None:
    def fields(kind: type) -> list[tuple[str, int, int]]:
        described = descriptor_pb2.DescriptorProto()
        kind.DESCRIPTOR.CopyToProto(described)  # type: ignore[attr-defined]
        return [(field.name, field.number, field.type) for field in described.field]

    assert fields(protocol.SCHEMA.messages[name]) == fields(known)


def test_a_field_of_bytes_is_on_the_wire_what_one_of_text_is() -> None:
    name = protocol.GET_IMAGE.request(name="é".encode())
    assert name.SerializeToString() == wrappers_pb2.StringValue(value="é").SerializeToString()

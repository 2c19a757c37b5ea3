"""JSON as Go reads it: grammar, keys, merging, types, depth."""

from __future__ import annotations

import contextlib
import json
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagekeep.errors import InvalidDocumentError
from imagekeep.oci.gojson import (
    NESTING_LIMIT,
    Node,
    Number,
    Reason,
    any_value,
    binary,
    boolean,
    decode,
    folded,
    int64,
    list_of,
    map_of,
    optional,
    parse,
    struct,
    text,
)

INNER = struct({"a": text, "b": text})
SHAPE = struct(
    {
        "name": text,
        "size": int64,
        "on": boolean,
        "off": boolean,
        "names": list_of(text),
        "inner": INNER,
        "maybe": optional(INNER),
        "inners": list_of(INNER),
        "labels": map_of(text),
        "set": map_of(struct({})),
        "blob": binary,
        "raw": any_value,
    }
)


def read(document: str | bytes) -> dict[str, Any]:
    encoded = document if isinstance(document, bytes) else document.encode()
    return decode(SHAPE, parse(encoded, "doc"), "doc")


def rejection(document: str | bytes) -> InvalidDocumentError:
    with pytest.raises(InvalidDocumentError) as caught:
        read(document)
    return caught.value


@pytest.mark.parametrize("key", ["size", "Size", "SIZE", "\u017fize", "\\u017fIZE"])
def test_a_key_matches_whatever_its_case(key: str) -> None:
    assert read(f'{{"{key}": 7}}') == {"size": 7}


@pytest.mark.parametrize("key", ["o\ufb00", "siz\u00e9", "s ize", "si\u200bze", "size\u0307", ""])
def test_another_key_is_unknown(key: str) -> None:
    assert read(json.dumps({key: 7})) == {}


def test_only_the_long_s_and_the_kelvin_sign_fold_to_ascii() -> None:
    folding = {chr(point) for point in range(128, sys.maxunicode + 1) if folded(chr(point)).isascii()}
    assert {unicodedata.name(character) for character in folding} == {
        "LATIN SMALL LETTER LONG S",
        "KELVIN SIGN",
    }


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param('{"name":"x","NAME":"y"}', {"name": "y"}, id="the last text stands"),
        pytest.param('{"name":"x","name":null}', {"name": "x"}, id="null leaves text"),
        pytest.param('{"size":1,"size":null}', {"size": 1}, id="null leaves a number"),
        pytest.param('{"on":true,"on":null}', {"on": True}, id="null leaves a boolean"),
        pytest.param('{"inner":{"a":"x"},"inner":null}', {"inner": {"a": "x"}}, id="null leaves an object"),
        pytest.param('{"names":["x"],"names":null}', {"names": None}, id="null clears a list"),
        pytest.param('{"labels":{"x":"y"},"labels":null}', {"labels": None}, id="null clears a map"),
        pytest.param('{"maybe":{"a":"x"},"maybe":null}', {"maybe": None}, id="null clears a pointer"),
        pytest.param('{"blob":"eA==","blob":null}', {"blob": b""}, id="null clears bytes"),
        pytest.param(
            '{"inner":{"a":"x"},"Inner":{"b":"y"}}', {"inner": {"a": "x", "b": "y"}}, id="objects merge"
        ),
        pytest.param(
            '{"maybe":{"a":"x"},"maybe":{"b":"y"}}', {"maybe": {"a": "x", "b": "y"}}, id="pointers merge"
        ),
        pytest.param(
            '{"labels":{"x":"1"},"labels":{"y":"2"}}', {"labels": {"x": "1", "y": "2"}}, id="maps merge"
        ),
        pytest.param('{"labels":{"x":"1","x":null}}', {"labels": {"x": ""}}, id="values of a map do not"),
        pytest.param('{"names":["x","y"],"names":["z"]}', {"names": ["z"]}, id="a list is replaced"),
        pytest.param('{"names":["x"],"names":[null]}', {"names": ["x"]}, id="but not where null stands"),
        pytest.param(
            '{"inners":[{"a":"x"}],"inners":[{"b":"y"}]}', {"inners": [{"a": "x", "b": "y"}]}, id="or objects"
        ),
        pytest.param(
            '{"names":["x","y"],"names":["z"],"names":[null,null]}',
            {"names": ["z", "y"]},
            id="an element that was cut off comes back",
        ),
        pytest.param(
            '{"names":["x"],"names":[],"names":[null]}', {"names": [""]}, id="an empty list forgets them"
        ),
        pytest.param('{"set":{"x":null,"y":{"z":1}}}', {"set": {"x": {}, "y": {}}}, id="sets keep no values"),
        pytest.param('{"raw":null}', {"raw": True}, id="null is raw content"),
        pytest.param("null", {}, id="a document may be null"),
    ],
)
def test_values_of_one_key_merge_as_in_go(document: str, expected: dict[str, Any]) -> None:
    assert read(document) == expected


@pytest.mark.parametrize(
    "written", ["1.0", "1e3", '"1"', "9223372036854775808", "-9223372036854775809", "1" * 5_000, "true", "{}"]
)
def test_a_whole_number_is_an_int64_in_digits(written: str) -> None:
    assert rejection(f'{{"size":{written}}}').reason is Reason.TYPE


@pytest.mark.parametrize("written", ["-0", "9223372036854775807", "-9223372036854775808"])
def test_the_whole_range_of_int64_is_read(written: str) -> None:
    assert read(f'{{"size":{written}}}') == {"size": int(written)}


@pytest.mark.parametrize(
    "field", ["name", "size", "on", "names", "inner", "maybe", "inners", "labels", "set"]
)
def test_a_wrong_type_in_a_known_field_fails_the_document(field: str) -> None:
    wrong = "7" if field != "size" else "[]"
    assert rejection(f'{{"{field}":{wrong}}}').reason is Reason.TYPE


def test_an_unknown_field_may_hold_anything() -> None:
    assert read('{"else":[1e999,{"x":[123456789012345678901234567890]}],"name":"x"}') == {"name": "x"}


def test_an_error_names_the_document_and_the_field() -> None:
    error = rejection('{"inners":[{"a":"x"},{"a":7}]}')
    assert str(error) == "document doc: inners.1.a: a number where a string belongs"


def test_an_error_names_no_value_and_no_key_of_a_map() -> None:
    error = rejection('{"labels":{"password":["hunter2"]}}')
    assert str(error) == "document doc: labels.*: a list where a string belongs"


def test_an_error_of_grammar_carries_no_part_of_the_document() -> None:
    error = rejection('{"name":"hunter2"')
    assert (error.__cause__, error.__context__, str(error)) == (None, None, "document doc: not valid JSON")


@pytest.mark.parametrize(
    "document",
    [
        "",
        " ",
        "\ufeff{}",
        '{"name":"x"} x',
        "{}{}",
        '{"else":NaN}',
        '{"else":-Infinity}',
        '{"else":01}',
        '{"else":1.}',
        '{"else":"\t"}',
        '{"else":"\\x"}',
        '{"else":[1,]}',
        "{'name':1}",
        "{name:1}",
        '{"name":"x"/**/}',
        '{"else":"\\ud8"}',
        '{"else":+1}',
        "\u00a0{}",
        "{\u00ff}",
    ],
)
def test_what_is_not_json_is_rejected(document: str) -> None:
    assert rejection(document).reason is Reason.SYNTAX


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (rb"\ud800x", "\ufffdx"),
        (rb"\udc00\ud800", "\ufffd\ufffd"),
        (rb"\ud800\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\uD83D\uDE00", "\U0001f600"),
        (rb"\\ud800", "\\ud800"),
        (b"\xe2\x82", "\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\xf0\x9f\x98\x80\xff", "\U0001f600\ufffd"),
        (b"\x7f", "\x7f"),
    ],
)
def test_what_is_no_character_becomes_the_replacement_character(written: bytes, expected: str) -> None:
    assert read(b'{"name":"' + written + b'"}') == {"name": expected}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('""', b""),
        ('"eA=="', b"x"),
        ('"e\\nA\\r=="', b"x"),
        ('"eB=="', b"x"),
        ("[120,null,0]", b"x\0\0"),
    ],
)
def test_bytes_are_base64_or_numbers(written: str, expected: bytes) -> None:
    assert read(f'{{"blob":{written}}}') == {"blob": expected}


@pytest.mark.parametrize("written", ["eA", "eA=", "e===", "====", "eA==eA==", "e A==", "eA-_", "\u00e9A=="])
def test_what_is_not_base64_is_rejected(written: str) -> None:
    assert rejection(json.dumps({"blob": written})).reason is Reason.BASE64


@pytest.mark.parametrize("number", ["256", "-1", "1.0"])
def test_a_byte_is_a_whole_number_below_256(number: str) -> None:
    assert rejection(f'{{"blob":[{number}]}}').reason is Reason.TYPE


def nested(depth: int, opening: str, closing: str, within: str = "") -> str:
    """Return an object with an unknown field whose containers make the document this deep."""
    return f'{{"else":{opening * (depth - 1)}{within}{closing * (depth - 1)},"name":"x"}}'


LISTS = pytest.param("[", "]", id="lists")
OBJECTS = pytest.param('{"a":[', "]}", id="lists in objects")


@pytest.mark.parametrize(("opening", "closing"), [LISTS, OBJECTS])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 1])
def test_unknown_fields_nest_as_deep_as_go_reads(opening: str, closing: str, share: float) -> None:
    containers = opening.count("[") + opening.count("{")
    depth = int((NESTING_LIMIT - 1) * share) // containers + 1
    assert read(nested(depth, opening, closing)) == {"name": "x"}


@pytest.mark.parametrize(("opening", "closing"), [LISTS, OBJECTS])
def test_deeper_nesting_is_rejected(opening: str, closing: str) -> None:
    assert rejection(nested(NESTING_LIMIT + 1, opening, closing)).reason is Reason.SYNTAX


def test_python_s_recursion_limit_does_not_matter() -> None:
    assert read(nested(NESTING_LIMIT, "[", "]")) == {"name": "x"}
    assert sys.getrecursionlimit() < NESTING_LIMIT


@pytest.mark.parametrize("depth", [300, 600, NESTING_LIMIT])
@pytest.mark.parametrize("wrong", ["x", "1,", "}", '"', "]", "{"])
def test_grammar_is_checked_at_every_depth(depth: int, wrong: str) -> None:
    assert rejection(nested(depth, "[", "]", wrong)).reason is Reason.SYNTAX


@pytest.mark.parametrize("within", ['"]"', '"\\"]"', '"\\\\"', '{"]":"["}'])
def test_brackets_in_strings_do_not_nest(within: str) -> None:
    assert read(nested(600, "[", "]", within)) == {"name": "x"}


def test_a_known_field_may_be_deep_down_in_an_unknown_one() -> None:
    assert rejection(f'{{"name":{"[" * 600}{"]" * 600}}}').reason is Reason.TYPE


@pytest.mark.parametrize(
    "document",
    [
        b'"' + b'\\"' * 500_000,
        b"[" * 1_000_000,
        b"[]" * 500_000,
        b"]" * 1_000_000,
        b'{"a":"' + b"\\ud800" * 200_000,
        b'{"blob":"' + b"=" * 1_000_000 + b'"}',
        b'{"size":' + b"1" * 1_000_000 + b"}",
        b"\xff" * 1_000_000,
    ],
    ids=lambda document: repr(document[:12]),
)
def test_a_hostile_megabyte_is_rejected_in_linear_time(document: bytes) -> None:
    rejection(document)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


def plain(node: Node) -> Any:
    """Return a scanned tree as json.loads would."""
    if isinstance(node, tuple):
        return {key: plain(child) for key, child in node}
    if isinstance(node, list):
        return [plain(child) for child in node]
    return json.loads(node) if isinstance(node, Number) else node


@given(PLAIN, st.booleans())
def test_plain_documents_read_as_json_loads_does(value: Any, as_ascii: bool) -> None:
    encoded = json.dumps(value, ensure_ascii=as_ascii).encode()
    assert plain(parse(encoded, "doc")) == json.loads(encoded)


PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"\\u",
    b"d800",
    b"null",
    b"true",
    b"1",
    b"-",
    b" ",
]
PIECES += [
    b'"name"',
    b'"size":',
    b'"inners":',
    b'"names":[',
    b'{"a":',
    b"\xff",
    b"\xef\xbb\xbf",
    b"\0",
    b"NaN",
]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=30).map(b"".join))
def test_any_bytes_give_a_value_or_a_typed_error(document: bytes) -> None:
    with contextlib.suppress(InvalidDocumentError):
        json.dumps(read(document), default=bytes.hex)


@given(st.binary(max_size=40))
def test_text_that_is_read_can_always_be_encoded(content: bytes) -> None:
    read(quoted(content))["name"].encode()


def quoted(content: bytes) -> bytes:
    """Return a document whose name holds these bytes, but for those that must be escaped."""
    safe = bytes(byte for byte in content if byte >= 0x20 and byte not in b'"\\')
    return b'{"name":"' + safe + b'"}'

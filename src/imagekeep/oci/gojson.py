"""JSON as Go's encoding/json reads it into structs, so that both see one image in the same bytes.

A document is read in two steps: `parse` checks the whole grammar and returns the tree, and `decode` takes the
known fields from it by a shape, as a Go struct does::

    LAYER = struct({"digest": text, "size": int64, "urls": list_of(text)})
    fields = decode(LAYER, parse(document, name), name)      # {"digest": …} with only the keys that occurred

What Go does, and JSON readers elsewhere do not (encoding/json; v1 semantics of encoding/json/v2):

- a key matches a field whatever its case, by Unicode's simple folding: `Size` is `size`;
- a key that occurs again merges into what the earlier one left: objects and maps by key, lists element by
  element, even into elements that a shorter list in between had cut off;
- null leaves text, numbers, booleans and objects as they are, and clears lists, maps and optional objects;
- a value of the wrong type in a known field fails the document; unknown fields are checked for grammar only;
- each byte that is not UTF-8, and each lone surrogate, becomes U+FFFD;
- nesting deeper than 10,000 is an error.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

from imagekeep.errors import InvalidDocumentError

Reason = InvalidDocumentError.Reason
T = TypeVar("T")

Node: TypeAlias = Any
"""A value of a parsed document: None, bool, str, Number, a list, or a tuple of an object's (key, value)."""

Shape: TypeAlias = Callable[[Node, T | None], T]
"""Decodes a node as one Go type; the second argument is what an earlier value of the same key left, or None."""

NESTING_LIMIT: Final = 10_000
"""The deepest nesting that Go reads (encoding/json: maxNestingDepth)."""

_LEVELS: Final = 256
"""Levels parsed at once: they count against Python's recursion limit, 1,000 by default."""

_INT64: Final = range(-(2**63), 2**63)
_INT64_LENGTH: Final = len(str(-(2**63)))
_BYTE: Final = range(256)
_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_UNDECODABLE = re.compile("[\udc80-\udcff]")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class Number(str):
    """A number as it was written; the field decides which numbers are valid."""

    __slots__ = ()


class _Remembering(list[Any]):
    """A list, and the memory that it lies in: Go keeps what a longer list of the same key had there.

    The lists of one key share the memory, so that a document of many takes time for the elements that it has.
    """

    __slots__ = ("memory",)

    def __init__(self, memory: list[Any]) -> None:
        super().__init__()
        self.memory = memory


class Mismatch(Exception):  # noqa: N818 - never leaves this package: `decode` raises InvalidDocumentError
    """Raised by a shape for a node that it cannot take; `path` grows from the inside out."""

    def __init__(self, detail: str, reason: Reason = Reason.TYPE) -> None:
        super().__init__(detail)
        self.reason = reason
        self.path: list[str] = []


def parse(document: bytes, name: str) -> Node:
    """Parse a document into a tree, checking its whole grammar.

    `name` is what errors call the document: its digest, or a file's name. Raises InvalidDocumentError.
    """
    try:
        text = _lone_surrogates_replaced(_decoded(document))
        if text.count("[") + text.count("{") > _LEVELS:
            text = _flattened(text)
        return _DECODER.decode(text)
    except (Mismatch, ValueError) as error:
        # The scanner's error holds the document, which may hold secrets: it must not travel on as the cause.
        detail = str(error) if isinstance(error, Mismatch) else "not valid JSON"
    raise InvalidDocumentError(name, Reason.SYNTAX, detail)


def decode(shape: Shape[T], node: Node, name: str) -> T:
    """Decode a parsed document by a shape; raises InvalidDocumentError, which names the field."""
    try:
        return shape(node, None)
    except Mismatch as mismatch:
        field = ".".join(reversed(mismatch.path)) or "the whole"
        raise InvalidDocumentError(name, mismatch.reason, f"{field}: {mismatch}") from None


def text(node: Node, previous: str | None) -> str:
    """Decode a Go string."""
    if type(node) is str:
        return node
    if node is None:
        return previous or ""
    raise _wrong_type(node, "a string")


def boolean(node: Node, previous: bool | None) -> bool:
    """Decode a Go bool."""
    if node is True or node is False:
        return bool(node)
    if node is None:
        return previous or False
    raise _wrong_type(node, "true or false")


_TAKEN_AS_IS: Final[Mapping[Shape[Any], type]] = {text: str, boolean: bool}
"""Shapes that return a node of exactly this type unchanged."""


def int64(node: Node, previous: int | None) -> int:
    """Decode a Go int64: digits alone, so neither `1.0` nor `1e3`."""
    return (previous or 0) if node is None else _integer(node, _INT64)


def any_value(_node: Node, _previous: bool | None) -> bool:
    """Decode a Go json.RawMessage whose content does not matter: null too is content."""
    return True


def binary(node: Node, previous: bytes | None) -> bytes:
    """Decode a Go []byte: padded base64, in which line ends are skipped, or a list of numbers below 256."""
    if node is None:
        return b""
    if type(node) is list:
        earlier = previous or b""
        return bytes(
            (earlier[i] if i < len(earlier) else 0) if child is None else _integer(child, _BYTE)
            for i, child in enumerate(node)
        )
    if type(node) is not str:
        raise _wrong_type(node, "base64")
    encoded = node.replace("\r", "").replace("\n", "")
    if not _BASE64.fullmatch(encoded):
        raise Mismatch("not base64", Reason.BASE64)
    return binascii.a2b_base64(encoded)


def optional(shape: Shape[T]) -> Shape[T | None]:
    """Decode a Go pointer: what `shape` takes, or None for null."""

    def take_optional(node: Node, previous: T | None) -> T | None:
        return None if node is None else shape(node, previous)

    return take_optional


def list_of(shape: Shape[T], most: int | None = None) -> Shape[list[T] | None]:
    """Decode a Go slice of what `shape` decodes; None is Go's nil.

    More than `most` elements are refused. Go has no such limit: it is for lists of objects, which take up to a
    hundred times the memory that they have in the document.
    """

    def take_list(node: Node, previous: list[T] | None) -> list[T] | None:
        """Merge each element into what an earlier list of the same key left in its place."""
        if node is None:
            return None
        if type(node) is not list:
            raise _wrong_type(node, "a list")
        if most is not None and len(node) > most:
            raise Mismatch(f"more than {most} elements")
        if not previous and shape is text and {*map(type, node)} <= {str}:
            return node.copy()
        if not previous:
            return _take_fresh(node, shape)
        memory: list[T] = previous.memory if isinstance(previous, _Remembering) else [*previous]
        taken = _Remembering(memory)
        try:
            for place, child in enumerate(node):
                if place < len(memory):
                    memory[place] = shape(child, memory[place])
                else:
                    memory.append(shape(child, None))
                taken.append(memory[place])
        except Mismatch as mismatch:
            mismatch.path.append(str(len(taken)))
            raise
        return taken

    return take_list


def _take_fresh(nodes: list[Node], shape: Shape[T]) -> list[T]:
    """Decode the elements of a list whose key has not occurred before."""
    taken: list[T] = []
    try:
        for child in nodes:
            taken.append(shape(child, None))  # noqa: PERF401 (an error names how many there were)
    except Mismatch as mismatch:
        mismatch.path.append(str(len(taken)))
        raise
    return taken


def map_of(shape: Shape[T]) -> Shape[dict[str, T] | None]:
    """Decode a Go map from strings to what `shape` decodes; None is Go's nil."""

    def take_map(node: Node, previous: dict[str, T] | None) -> dict[str, T] | None:
        """Decode each value anew into what an earlier map of the same key left."""
        if node is None:
            return None
        if type(node) is not tuple:
            raise _wrong_type(node, "an object")
        taken = {} if previous is None else previous
        if shape is text and {type(child) for _, child in node} <= {str}:
            taken.update(node)
            return taken
        for key, child in node:
            try:
                taken[key] = shape(child, None)
            except Mismatch as mismatch:
                mismatch.path.append("*")  # a key of a map is content, and may be anything
                raise
        return taken

    return take_map


def struct(shapes: Mapping[str, Shape[Any]]) -> Shape[dict[str, Any]]:
    """Decode a Go struct with these JSON names: a dict of the fields that occurred, under those very names."""
    known = {name: (name, shape, _TAKEN_AS_IS.get(shape)) for name, shape in shapes.items()}
    fields = {folded(name): field for name, field in known.items()} | known

    def take_struct(node: Node, previous: dict[str, Any] | None) -> dict[str, Any]:
        """Merge each known field into what an earlier object of the same key left."""
        taken: dict[str, Any] = {} if previous is None else previous
        if node is None:
            return taken
        if type(node) is not tuple:
            raise _wrong_type(node, "an object")
        for key, child in node:
            field = fields.get(key) or fields.get(folded(key))
            if field is None:
                continue
            name, shape, kind = field
            if type(child) is kind:  # most fields are, and a call takes twice as long
                taken[name] = child
                continue
            try:
                taken[name] = shape(child, taken.get(name))
            except Mismatch as mismatch:
                mismatch.path.append(name)
                raise
        return taken

    return take_struct


def folded(key: str) -> str:
    """Return `key` such that keys which Go holds equal to an ASCII name are that name in lower case.

    Simple folding joins only two other characters to ASCII's letters: the long s, and the Kelvin sign.
    """
    return key.lower().replace("\N{LATIN SMALL LETTER LONG S}", "s")


def _integer(node: Node, allowed: range) -> int:
    """Return a number that is written as a whole one and lies in a range."""
    if type(node) is not Number:
        raise _wrong_type(node, "a whole number")
    try:  # a sign and 19 digits hold every int64, and int() refuses or is slow on thousands of them
        value = int(node) if len(node) <= _INT64_LENGTH else None
    except ValueError:  # a fraction or an exponent, the only other forms that the scanner lets pass
        value = None
    if value is None or value not in allowed:
        raise Mismatch("a number that is not whole, or out of range")
    return value


def _wrong_type(node: Node, wanted: str) -> Mismatch:
    """Return the error for a node of another type than a field has, without its value."""
    names = {bool: "a boolean", str: "a string", Number: "a number", list: "a list", tuple: "an object"}
    return Mismatch(f"{names.get(type(node), 'null')} where {wanted} belongs")


def _decoded(document: bytes) -> str:
    """Return the document's text, each byte that is not UTF-8 as U+FFFD; Python's `replace` joins some."""
    try:
        return document.decode()
    except UnicodeDecodeError:
        return _UNDECODABLE.sub("\ufffd", document.decode(errors="surrogateescape"))


def _lone_surrogates_replaced(text: str) -> str:
    """Return the text with every escape of a lone surrogate as one of U+FFFD."""
    if "\\" not in text:  # a fast check; the longer "\\ud" took as long as the scan itself
        return text
    return _ESCAPE.sub(lambda escape: r"\ufffd" if escape[1] else escape[0], text)


def _flattened(text: str) -> str:
    """Return the text with a 0 for each container that begins `_LEVELS` levels further down, once it is checked.

    What is replaced lies deeper than any known field. So one scanner, which recurses, reads any depth. Where
    brackets do not pair, the result is not JSON either.
    """
    depth, mark = 0, 0
    outer: list[list[str]] = []
    pieces: list[str] = []
    for token in _BRACKET.finditer(text):
        if (bracket := token[0]) in ("[", "{"):
            if depth and depth % _LEVELS == 0:
                outer.append([*pieces, text[mark : token.start()]])
                pieces, mark = [], token.start()
            depth += 1
            if depth > NESTING_LIMIT:
                raise Mismatch(f"nested deeper than {NESTING_LIMIT}")
        elif bracket in ("]", "}"):
            depth -= 1
            if outer and depth % _LEVELS == 0 and depth:
                _DECODER.decode("".join([*pieces, text[mark : token.end()]]))
                pieces, mark = [*outer.pop(), "0"], token.end()
    return "".join([*pieces, text[mark:]])


def _reject_constant(_constant: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python's scanner would take."""
    raise Mismatch("not valid JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=Number, parse_float=Number, parse_constant=_reject_constant
)

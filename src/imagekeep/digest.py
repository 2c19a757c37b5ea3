"""Digests and truncated ids.

A digest is `algorithm:encoded`, the encoded part in lower-case hex (opencontainers/go-digest v1.0.0)::

    digest      := algorithm ":" encoded
    algorithm   := component ([.+_-] component)*      component := [a-z0-9]+
    encoded     := [a-f0-9]{64} for sha256, {96} for sha384, {128} for sha512

A truncated id is a leading part of an encoded digest, with or without its algorithm. A look-up takes three steps,
so that the second can be an indexed query::

    query = parse_query("sha256:2971")
    found = [id for low, high in query.ranges() for id in select(low, high, limit=LIMIT_PER_RANGE)]
    image_id = query.choose(found)

The answer is that of go-digest's digestset on the whole set, which it orders by (encoded, algorithm).
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.errors import (
    AmbiguousError,
    CorruptContentError,
    ImageNotFoundError,
    InvalidArgumentError,
    InvalidDigestError,
    printable,
)

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Iterable

Reason = InvalidDigestError.Reason

ENCODED_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
"""The available algorithms, with the number of hex characters in a digest."""

LIMIT_PER_RANGE = 2
"""How many ids of each range `choose` needs: its rule compares only the first two."""

_PLAIN = re.compile(r"sha256:[0-9a-f]{64}").fullmatch
"""Matches nearly every digest that there is, in a third of the time of the whole check."""

_HEX = "0123456789abcdef"
_AFTER_HEX = "g"
_GRAMMAR = r"[a-z0-9]++(?:[.+_-][a-z0-9]++)*+:[a-zA-Z0-9=_-]++"


def validate(digest: str) -> None:
    """Check that `digest` is a full digest of an available algorithm (go-digest: Digest.Validate).

    Raises InvalidDigestError. Its reason follows go-digest's order of checks: the format if the algorithm is
    unknown, then the length of the encoded part in bytes, then its characters.
    """
    if reason := _why_invalid(digest):
        raise InvalidDigestError(digest, reason)


def is_digest(text: str) -> bool:
    """Return whether `validate` accepts `text`."""
    if _PLAIN(text):
        return True
    # Most texts are names, for which finding the reason takes longest.
    return text.partition(":")[0] in ENCODED_LENGTHS and _why_invalid(text) is None


def split(digest: str) -> tuple[str, str]:
    """Return the algorithm and the encoded part of a digest; raises InvalidDigestError."""
    validate(digest)
    algorithm, _, encoded = digest.partition(":")
    return algorithm, encoded


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of `content`; raises InvalidDigestError if the algorithm is not available."""
    if algorithm not in ENCODED_LENGTHS:
        raise InvalidDigestError(f"{algorithm}:", Reason.ALGORITHM)
    return f"{algorithm}:{_hash_of(algorithm)(content).hexdigest()}"


def verify(digest: str, content: bytes) -> None:
    """Check that `content` has this digest.

    Raises CorruptContentError if it does not, and InvalidDigestError if `digest` is malformed.
    """
    algorithm, _ = split(digest)
    actual = digest_of(content, algorithm)
    if actual != digest:
        raise CorruptContentError(f"content of {digest}: its digest is {actual}")


class DigestQuery(NamedTuple):
    """A full or truncated id, split as in digestset's Lookup; made by `parse_query`.

    `algorithm` is empty if the query names none; `encoded` is a leading part of a digest's hex.
    """

    algorithm: str
    encoded: str

    @property
    def text(self) -> str:
        """Return the query as it was given."""
        return f"{self.algorithm}:{self.encoded}" if self.algorithm else self.encoded

    @property
    def is_hex(self) -> bool:
        """Return whether `encoded` has only hex characters, so that an id can match."""
        return not self.encoded.strip(_HEX)

    def ranges(self) -> tuple[tuple[str, str], ...]:
        """Return for each algorithm the half-open range [low, high) of the full ids that `choose` needs.

        They are the ids of every algorithm whose hex begins with the query's: if the query names an algorithm and
        an id of another one comes first, the answer is "not found". Empty if no id can match.
        """
        if not self.is_hex or (self.algorithm and self.algorithm not in ENCODED_LENGTHS):
            return ()
        return tuple(
            [self.range_of(name) for name, length in ENCODED_LENGTHS.items() if len(self.encoded) <= length]
        )

    def range_of(self, algorithm: str) -> tuple[str, str]:
        """Return the half-open range [low, high) of one algorithm's ids whose hex begins with the query's."""
        low = f"{algorithm}:{self.encoded}"
        return low, low + _AFTER_HEX

    def choose(self, candidates: Iterable[str]) -> str:
        """Return the id that answers the query (digestset: Set.Lookup).

        `candidates` are the first LIMIT_PER_RANGE ids of each range, or more, in any order. Raises
        ImageNotFoundError, or AmbiguousError with the candidates that match.
        """
        start = (self.encoded, self.algorithm)
        beginning = {entry for entry in map(_entry, candidates) if entry[0].startswith(self.encoded)}
        entries = sorted(entry for entry in beginning if entry >= start)
        matches = [entry for entry in entries[:LIMIT_PER_RANGE] if self._same_algorithm(entry)]
        if not matches or matches[0] != entries[0]:
            raise ImageNotFoundError(f"no such image: {printable(self.text)}")
        if len(matches) == 1:
            return _full(matches[0])
        raise AmbiguousError(self.text, [_full(entry) for entry in entries if self._same_algorithm(entry)])

    def matches(self, image_id: str) -> bool:
        """Return whether the query is a leading part of a full id, or of its hex if it names no algorithm."""
        algorithm, _, encoded = image_id.partition(":")
        return self.algorithm in ("", algorithm) and encoded.startswith(self.encoded)

    def _same_algorithm(self, entry: tuple[str, str]) -> bool:
        return self.algorithm in ("", entry[1])


def parse_query(query: str) -> DigestQuery:
    """Split a full or truncated id into algorithm and encoded part, as digestset's Lookup does.

    If `validate` would find an invalid format, the whole query is the encoded part. Raises InvalidArgumentError for
    an empty query, to which digestset returns the only digest of a set of one.
    """
    if not query:
        raise InvalidArgumentError("image id is empty")
    if _why_invalid(query) is Reason.FORMAT:
        return DigestQuery("", query)
    algorithm, _, encoded = query.partition(":")
    return DigestQuery(algorithm, encoded)


def _why_invalid(digest: str) -> Reason | None:
    algorithm, _, encoded = digest.partition(":")
    if not algorithm or not encoded:
        return Reason.FORMAT
    if algorithm not in ENCODED_LENGTHS:
        return Reason.ALGORITHM if re.fullmatch(_GRAMMAR, digest) else Reason.FORMAT
    # The length is checked before the characters, even of text with lone surrogates, which UTF-8 cannot encode.
    counted = encoded if encoded.isascii() else encoded.encode("utf-8", "surrogatepass")
    if len(counted) != ENCODED_LENGTHS[algorithm]:
        return Reason.LENGTH
    return Reason.FORMAT if encoded.strip(_HEX) else None


@functools.cache
def _hash_of(algorithm: str) -> Callable[[bytes], hashlib._Hash]:
    # OpenSSL takes as long to load as SQLite, and looking up an id needs no hash.
    import hashlib

    function: Callable[[bytes], hashlib._Hash] = getattr(hashlib, algorithm)
    return function


def _entry(digest: str) -> tuple[str, str]:
    """Return a full id as (encoded, algorithm), the order of digestset."""
    algorithm, _, encoded = digest.partition(":")
    return encoded, algorithm


def _full(entry: tuple[str, str]) -> str:
    return f"{entry[1]}:{entry[0]}"

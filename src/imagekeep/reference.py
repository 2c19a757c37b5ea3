"""Image references: their grammar, their canonical form and their order (distribution/reference v0.6.0).

::

    reference   := name [":" tag] ["@" digest]
    name        := [domain "/"] path
    domain      := (component ("." component)* | "[" [a-fA-F0-9:]+ "]") [":" [0-9]+]
    component   := letters and digits, "-" inside
    path        := segment ("/" segment)*             at most 255 characters
    segment     := [a-z0-9]+ (separator [a-z0-9]+)*
    separator   := "." | "_" | "__" | "-"+
    tag         := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
    digest      := algorithm ":" hex{32,}             then go-digest's rules
    algorithm   := scheme ([-_+.] scheme)*            scheme := [A-Za-z][A-Za-z0-9]*

A familiar name is completed before it is parsed: `busybox` is `docker.io/library/busybox`. So what is parsed
always has a slash, and what stands before the first is a domain or, failing that, the path's first segment.

A store keeps references as they were given. They are parsed to be ordered and shown, and a name that is no
reference is kept too: only `check_name` says what cannot be a name.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imagekeep.digest import is_digest, validate
from imagekeep.errors import InvalidDigestError, InvalidReferenceError

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_BYTES_MAX = 32_768
"""The longest name in UTF-8 bytes: containerd keeps names as bolt keys, and this is bolt's longest key."""

PATH_LENGTH_MAX = 255
"""The longest path, `library/` included and without the domain (RepositoryNameTotalLengthMax)."""

DEFAULT_DOMAIN = "docker.io"
LEGACY_DEFAULT_DOMAIN = "index.docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"

# Every repetition is possessive: what follows one always begins with a character that it does not take, so
# that giving back could never help. A match therefore costs one pass, whatever the text.
GRAMMAR = r"""
    \A
    (?: (?P<domain>
            (?: [a-zA-Z0-9]++ (?: -++ [a-zA-Z0-9]++ )*+
                (?: \. [a-zA-Z0-9]++ (?: -++ [a-zA-Z0-9]++ )*+ )*+
            |   \[ [a-fA-F0-9:]++ \]
            )
            (?: : [0-9]++ )?+
        ) /
    )?+
    (?P<path>
        [a-z0-9]++ (?: (?: \. | __?+ | -++ ) [a-z0-9]++ )*+
        (?: / [a-z0-9]++ (?: (?: \. | __?+ | -++ ) [a-z0-9]++ )*+ )*+
    )
    (?: : (?P<tag> [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}+ ) )?+
    (?: @ (?P<digest>
            [A-Za-z] [A-Za-z0-9]*+ (?: [-_+.] [A-Za-z] [A-Za-z0-9]*+ )*+
            : [a-fA-F0-9]{32,}+
        )
    )?+
    \Z
"""

_IDENTIFIER_LENGTH = 64
_HEX = "0123456789abcdef"
_UNPARSABLE_RANK = 5
_DIGEST_REASONS = {
    InvalidDigestError.Reason.FORMAT: "godigest_invalid_format",
    InvalidDigestError.Reason.LENGTH: "godigest_invalid_length",
    InvalidDigestError.Reason.ALGORITHM: "godigest_unsupported",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference in canonical form; its string is that form.

    A part that is absent is empty. `domain` is empty where the first component is no domain name, and a bare
    digest has no part but `digest`, in full.
    """

    domain: str = ""
    path: str = ""
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return _written(self.name, self.tag, self.digest)

    @property
    def name(self) -> str:
        """Return the domain and the path; empty for a bare digest."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    @property
    def familiar_name(self) -> str:
        """Return the name as people write it: without `docker.io/`, and there without `library/`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        remainder = self.path.removeprefix(OFFICIAL_PREFIX)
        return self.path if "/" in remainder else remainder

    @property
    def familiar(self) -> str:
        """Return the reference with its familiar name (distribution/reference: FamiliarString)."""
        return _written(self.familiar_name, self.tag, self.digest)

    @property
    def rank(self) -> int:
        """Return the place of the reference's kind in Sort's order, from 0.

        Name with tag and digest, name with tag, name with digest, name alone, digest alone.
        """
        if not self.name:
            return 4
        if self.tag:
            return 0 if self.digest else 1
        return 2 if self.digest else 3


def check_name(name: str) -> None:
    """Check that `name` can name an image at all, whether or not it is a reference.

    Raises InvalidReferenceError for a name that is empty, longer than NAME_BYTES_MAX, or not to be encoded in
    UTF-8 (lone surrogates); its reason is name_empty, name_longer_than_32768_bytes or name_not_utf8.
    """
    if not name:
        raise InvalidReferenceError(name, "name_empty")
    _check_encodable(name)


def parse_normalized(text: str) -> Reference:
    """Complete a familiar name and parse it (distribution/reference: ParseNormalizedNamed).

    Raises InvalidReferenceError; its reason is one of identifier_not_allowed (64 hex), remote_not_lowercase,
    name_contains_uppercase, reference_invalid_format, name_too_long (the path), godigest_invalid_format,
    godigest_invalid_length and godigest_unsupported, or one of `check_name`'s for a text that can be no name.
    """
    _check_encodable(text)
    if _is_identifier(text):
        raise InvalidReferenceError(text, "identifier_not_allowed")
    return _complete(text)


def parse_docker_ref(text: str) -> Reference:
    """Parse a reference as an image is pulled by it (distribution/reference: ParseDockerRef).

    A name alone gets the tag `latest`; a tag beside a digest is dropped. Raises as `parse_normalized` does.
    """
    reference = parse_normalized(text)
    if reference.digest:
        return replace(reference, tag="")
    return reference if reference.tag else replace(reference, tag=DEFAULT_TAG)


def parse_any(text: str) -> Reference:
    """Parse a reference, a whole digest, or 64 hex for a sha256 (distribution/reference: ParseAnyReference).

    The latter two give a reference with nothing but its digest. Raises as `parse_normalized` does.
    """
    _check_encodable(text)
    if _is_identifier(text):
        return Reference(digest=f"sha256:{text}")
    if is_digest(text):
        return Reference(digest=text)
    return _complete(text)


def sort_key(name: str) -> tuple[int, str]:
    """Return the rank and the string by which distribution/reference's Sort orders a name.

    The string is what Sort would rewrite the name to; a name that is no reference comes last, as it is. Names
    with the same key are told apart by the name itself: see `sort_references`.
    """
    try:
        reference = parse_any(name)
    except InvalidReferenceError:
        return _UNPARSABLE_RANK, name
    return reference.rank, str(reference)


def sort_references(names: Iterable[str]) -> list[str]:
    """Return the names in the order of distribution/reference's Sort, each as it was given.

    Sort itself returns rewritten names, by which they could no longer be removed.
    """
    return sorted(names, key=lambda name: (*sort_key(name), name))


def repo_tags(references: Iterable[str]) -> tuple[str, ...]:
    """Return those that are a name and a tag, in canonical form (containerd: ParseImageReferences)."""
    return tuple(str(reference) for reference in _named(references) if reference.tag and not reference.digest)


def repo_digests(references: Iterable[str]) -> tuple[str, ...]:
    """Return those that are a name and a digest, in canonical form (containerd: ParseImageReferences)."""
    return tuple(str(reference) for reference in _named(references) if reference.digest)


def _named(names: Iterable[str]) -> Iterable[Reference]:
    """Yield the names that are references with a name; the others have no repository."""
    for name in names:
        try:
            reference = parse_any(name)
        except InvalidReferenceError:
            continue
        if reference.name:
            yield reference


def _check_encodable(name: str) -> None:
    """Refuse what no source can hold, before anything reads through it."""
    try:
        too_long = len(name) > NAME_BYTES_MAX or len(name.encode()) > NAME_BYTES_MAX
    except UnicodeEncodeError:
        raise InvalidReferenceError(name, "name_not_utf8") from None
    if too_long:
        raise InvalidReferenceError(name, f"name_longer_than_{NAME_BYTES_MAX}_bytes")


def _is_identifier(text: str) -> bool:
    """Return whether a text is the hex of a sha256 (distribution/reference: anchoredIdentifierRegexp)."""
    return len(text) == _IDENTIFIER_LENGTH and not text.strip(_HEX)


def _split_domain(text: str) -> tuple[str, str]:
    """Return the domain and what follows, Docker Hub's where the text names none (splitDockerDomain)."""
    first, slash, rest = text.partition("/")
    is_domain = slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    domain, remainder = (first, rest) if is_domain else (DEFAULT_DOMAIN, text)
    if domain == LEGACY_DEFAULT_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = OFFICIAL_PREFIX + remainder
    return domain, remainder


def _complete(text: str) -> Reference:
    """Complete what is a familiar name, if it is any reference, and parse it."""
    domain, remainder = _split_domain(text)
    remote, _, _ = remainder.partition(":")
    if remote.lower() != remote:
        raise InvalidReferenceError(text, "remote_not_lowercase")
    return _parse(text, f"{domain}/{remainder}")


def _parse(text: str, completed: str) -> Reference:
    """Parse the completed form of `text` (distribution/reference: Parse)."""
    match = _grammar().match(completed)
    if match is None:
        only_case = _grammar().match(_lower_as_go(completed))
        raise InvalidReferenceError(
            text, "name_contains_uppercase" if only_case else "reference_invalid_format"
        )
    reference = Reference(*match.groups(""))  # the fields are in the order of the groups
    if len(reference.path) > PATH_LENGTH_MAX:
        raise InvalidReferenceError(text, "name_too_long")
    if reference.digest:
        try:
            validate(reference.digest)
        except InvalidDigestError as error:
            raise InvalidReferenceError(text, _DIGEST_REASONS[error.reason]) from error
    return reference


def _lower_as_go(text: str) -> str:
    """Return `text` in lower case, `İ` as a plain `i`: Go maps it to one character, Python to two."""
    return text.replace("İ", "i").lower()


def _written(name: str, tag: str, digest: str) -> str:
    """Join the parts of a reference, leaving out the empty ones and their marks."""
    tagged = f"{name}:{tag}" if tag else name
    return f"{tagged}@{digest}" if tagged and digest else tagged or digest


@functools.cache
def _grammar() -> re.Pattern[str]:
    """Compile the grammar on first use: most commands never parse a reference."""
    return re.compile(GRAMMAR, re.VERBOSE)

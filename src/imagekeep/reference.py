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

A familiar name is completed before it is parsed: `busybox` becomes `docker.io/library/busybox`. So the parsed text
always has a slash. The part before the first slash is a domain or, if it cannot be one, the path's first segment.

A store keeps references as written, and parses them only to order and show them. It also keeps names that are not
references: `check_name` rejects only what cannot be a name at all.
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
"""Maximum length of a name in UTF-8 bytes: containerd keeps names as bolt keys, and this is bolt's limit."""

PATH_LENGTH_MAX = 255
"""Maximum length of a path, including `library/`, without the domain (RepositoryNameTotalLengthMax)."""

DEFAULT_DOMAIN = "docker.io"
LEGACY_DEFAULT_DOMAIN = "index.docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"

# Every repetition is possessive: what follows it always begins with a character that it cannot match, so
# backtracking could never help. Matching takes one pass over any text.
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
    """A parsed reference, whose string is its canonical form.

    Missing parts are empty. `domain` is empty if the first component is not a domain name; a bare digest has only
    `digest`.
    """

    domain: str = ""
    path: str = ""
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return _written(self.name, self.tag, self.digest)

    @property
    def name(self) -> str:
        """Return domain and path; empty for a bare digest."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    @property
    def familiar_name(self) -> str:
        """Return the name as people write it, without `docker.io/` or `docker.io/library/`."""
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
        """Return the rank in Sort's order: tag and digest 0, tag 1, digest 2, name alone 3, bare digest 4."""
        if not self.name:
            return 4
        if self.tag:
            return 0 if self.digest else 1
        return 2 if self.digest else 3


def check_name(name: str) -> None:
    """Check that `name` can name an image, even if it is not a reference.

    Raises InvalidReferenceError for a name that is empty, longer than NAME_BYTES_MAX, or not encodable in UTF-8
    (lone surrogates); its reason is name_empty, name_longer_than_32768_bytes or name_not_utf8.
    """
    if not name:
        raise InvalidReferenceError(name, "name_empty")
    _check_encodable(name)


def parse_normalized(text: str) -> Reference:
    """Complete a familiar name and parse it (distribution/reference: ParseNormalizedNamed).

    Raises InvalidReferenceError; its reason is one of identifier_not_allowed (64 hex), remote_not_lowercase,
    name_contains_uppercase, reference_invalid_format, name_too_long (the path), godigest_invalid_format,
    godigest_invalid_length and godigest_unsupported, or one of `check_name`'s.
    """
    _check_encodable(text)
    if _is_identifier(text):
        raise InvalidReferenceError(text, "identifier_not_allowed")
    return _complete(text)


def parse_docker_ref(text: str) -> Reference:
    """Parse the reference of a pull (distribution/reference: ParseDockerRef).

    A name alone gets the tag `latest`; a tag is dropped if there is a digest. Raises as `parse_normalized` does.
    """
    reference = parse_normalized(text)
    if reference.digest:
        return replace(reference, tag="")
    return reference if reference.tag else replace(reference, tag=DEFAULT_TAG)


def parse_any(text: str) -> Reference:
    """Parse a reference, a digest, or the 64 hex of a sha256 (distribution/reference: ParseAnyReference).

    The last two become a reference with only a digest. Raises as `parse_normalized` does.
    """
    _check_encodable(text)
    if _is_identifier(text):
        return Reference(digest=f"sha256:{text}")
    if is_digest(text):
        return Reference(digest=text)
    return _complete(text)


def sort_key(name: str) -> tuple[int, str]:
    """Return the rank and the string by which distribution/reference's Sort orders a name.

    The string is the name's canonical form. A name that is not a reference comes last, unchanged. Equal keys are
    ordered by the name itself: see `sort_references`.
    """
    try:
        reference = parse_any(name)
    except InvalidReferenceError:
        return _UNPARSABLE_RANK, name
    return reference.rank, str(reference)


def sort_references(names: Iterable[str]) -> list[str]:
    """Return the names, unchanged, in the order of distribution/reference's Sort.

    Sort itself returns canonical names, under which the source may not know them.
    """
    return sorted(names, key=lambda name: (*sort_key(name), name))


def repo_tags(references: Iterable[str]) -> tuple[str, ...]:
    """Return the canonical forms of references with a tag (containerd: ParseImageReferences)."""
    return tuple(str(reference) for reference in _named(references) if reference.tag and not reference.digest)


def repo_digests(references: Iterable[str]) -> tuple[str, ...]:
    """Return the canonical forms of references with a digest (containerd: ParseImageReferences)."""
    return tuple(str(reference) for reference in _named(references) if reference.digest)


def _named(names: Iterable[str]) -> Iterable[Reference]:
    """Yield the references among names, except bare digests, which have no repository."""
    for name in names:
        try:
            reference = parse_any(name)
        except InvalidReferenceError:
            continue
        if reference.name:
            yield reference


def _check_encodable(name: str) -> None:
    """Raise InvalidReferenceError for a name that no source can hold, before it is scanned."""
    try:
        too_long = len(name) > NAME_BYTES_MAX or len(name.encode()) > NAME_BYTES_MAX
    except UnicodeEncodeError:
        raise InvalidReferenceError(name, "name_not_utf8") from None
    if too_long:
        raise InvalidReferenceError(name, f"name_longer_than_{NAME_BYTES_MAX}_bytes")


def _is_identifier(text: str) -> bool:
    """Return whether text is the hex of a sha256 (distribution/reference: anchoredIdentifierRegexp)."""
    return len(text) == _IDENTIFIER_LENGTH and not text.strip(_HEX)


def _split_domain(text: str) -> tuple[str, str]:
    """Return the domain, by default Docker Hub's, and the rest (splitDockerDomain)."""
    first, slash, rest = text.partition("/")
    is_domain = slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    domain, remainder = (first, rest) if is_domain else (DEFAULT_DOMAIN, text)
    if domain == LEGACY_DEFAULT_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = OFFICIAL_PREFIX + remainder
    return domain, remainder


def _complete(text: str) -> Reference:
    """Complete a familiar name and parse it."""
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
    """Return `text` in lower case, with `İ` as `i`: Go maps it to one character, Python to two."""
    return text.replace("İ", "i").lower()


def _written(name: str, tag: str, digest: str) -> str:
    tagged = f"{name}:{tag}" if tag else name
    return f"{tagged}@{digest}" if tagged and digest else tagged or digest


@functools.cache
def _grammar() -> re.Pattern[str]:
    """Return the compiled grammar; most commands never need it."""
    return re.compile(GRAMMAR, re.VERBOSE)

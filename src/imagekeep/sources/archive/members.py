"""Builds the table of an archive's members in one pass over its headers."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagekeep.sources.archive.tar import MemberType, damaged, members

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagekeep.sources.archive.blobs import Blob
    from imagekeep.sources.archive.tar import Member, TarInput

NAMES_LIMIT = 16 << 20
"""Maximum bytes of all names and links in an archive: enough for 200,000 blobs."""

LINK_LIMIT = 16
"""Maximum number of links followed from one name, more than any tool makes; ends cycles."""


@dataclass(frozen=True, slots=True)
class MemberTable:
    """The regular members of an archive by name, and the targets of its links.

    Names are cleaned as by Go's path.Clean and looked up only in this table, so `..` or a leading `/` leads
    nowhere. The later of two members with one name counts, as in containerd.
    """

    regular: dict[str, Blob] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Blob | None:
        """Return the member with this name, through links within the archive; None if there is none."""
        name = clean(name)
        for _ in range(LINK_LIMIT):
            if (blob := self.regular.get(name)) is not None:
                return blob
            if (name := self.links.get(name, "")) == "":
                return None
        return None

    def add(self, member: Member, take: Callable[[Member], Blob]) -> None:
        """Add a member; skip directories, devices and the like."""
        name = clean(member.name)
        if member.kind is MemberType.REGULAR:
            self.regular[name] = take(member)
        elif member.kind is MemberType.SYMBOLIC_LINK:
            self._add_link(name, clean(f"{posixpath.dirname(name) or '.'}/{member.link}"))
        elif member.kind is MemberType.HARD_LINK:
            self._add_link(name, clean(member.link))

    def _add_link(self, name: str, target: str) -> None:
        """Add a link, but not to itself, as GNU tar writes if a file was given twice."""
        if target != name:
            self.regular.pop(name, None)
            self.links[name] = target


def read_members(tar: TarInput, take: Callable[[Member], Blob]) -> MemberTable:
    """Return the table of an archive; raises as `imagekeep.sources.archive.tar.members` does.

    `take` is called with `tar` at each regular member's content, and returns the blob that stands for it.
    """
    table = MemberTable()
    left = NAMES_LIMIT
    for member in members(tar):
        # A link keeps its directory's name and its target's.
        left -= len(member.name) * (2 if member.link else 1) + len(member.link)
        if left < 0:
            raise damaged(tar, f"has more than {NAMES_LIMIT} bytes of names")
        table.add(member, take)
    return table


def clean(name: str) -> str:
    """Return the shortest form of a member's name (Go: path.Clean)."""
    cleaned = posixpath.normpath(name)
    return cleaned[1:] if cleaned.startswith("//") else cleaned

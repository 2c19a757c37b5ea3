"""The questions that an operator asks, and the SQL that answers them, from named_queries.toml.

They are the named queries of `imagekeep query --named`, the pages of `imagekeep browse`, and docs/questions.md.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TOOLS = ("crictl", "ctr", "nerdctl", "docker", "podman")
"""The tools whose nearest answer a question names."""

_FILE = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A question with its SQL.

    `parameters` says what each `:name` of the SQL means, and `example` has values that give an answer on the
    example store of the documentation. `command` is a command that answers the question for people, if there is
    one, and `nearest` the nearest that other tools offer, by tool.
    """

    name: str
    question: str
    sql: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    example: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None
    nearest: Mapping[str, str] = field(default_factory=dict)

    def values(self, given: Mapping[str, str | float | None]) -> dict[str, str | float | None]:
        """Return the given parameters, and an empty text for each of the others."""
        return {**dict.fromkeys(self.parameters, ""), **given}


@cache
def named_queries() -> Mapping[str, NamedQuery]:
    """Return every question by its name, in the order of the documentation."""
    questions = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {name: NamedQuery(name, **entry) for name, entry in questions.items()}

"""The pages that are made from the program's own texts are up to date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep.named_queries import named_queries
from tests import written_docs
from tests.cli.session import run_line
from tests.demo_store import SECRETS, make_demo_store

if TYPE_CHECKING:
    from imagekeep.named_queries import NamedQuery

DOCS = Path(__file__).parents[1] / "docs"
STALE = "run scripts/write-docs"


def test_the_page_of_the_views_is_up_to_date() -> None:
    assert (DOCS / "schema.md").read_text() == written_docs.schema_page(), STALE


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the example store."""
    made = tmp_path_factory.mktemp("answers")
    make_demo_store(made / "images.db")
    return made


@pytest.mark.slow
def test_the_page_of_the_questions_is_up_to_date(tmp_path: Path) -> None:
    written = (DOCS / "questions.md").read_text()
    assert written == written_docs.questions_page(tmp_path), STALE
    assert not any(secret in written for secret in SECRETS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "query", [each for each in named_queries().values() if each.command], ids=lambda q: q.name
)
def test_the_command_for_people_answers_on_the_example_store(directory: Path, query: NamedQuery) -> None:
    shown = run_line(f"{query.command} && echo answered", directory)
    assert shown.splitlines()[-1] == "answered"
    assert len(shown.splitlines()) > 1

"""`imagekeep.schema` declares what the migrations create."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from imagekeep import Store, schema
from imagekeep.errors import NotAStoreError, SchemaVersionError, StoreUnavailableError
from imagekeep.internals import apply_all
from tests.database.rows import opened, schema_of
from tests.database.stores import foreign, thawed
from tests.model import IMAGES

if TYPE_CHECKING:
    from pathlib import Path

TABLES, VIEWS = schema.metadata.tables, schema.views.tables
INDEXES = {
    str(index.name): index
    for table in TABLES.values()
    for index in sorted(table.indexes, key=lambda index: str(index.name))
}
COMMENT = re.compile(r"/\* (.*?) \*/")


def tokens(statement: str) -> list[str]:
    """Return the tokens of a statement without its comments."""
    return re.findall(r"'[^']*'|\w+|[^\s\w]", COMMENT.sub("", statement).replace('"', ""))


def test_every_table_index_and_view_is_declared(store_path: Path) -> None:
    made = {name for name in schema_of(store_path) if not name.startswith("trigger ")}
    made -= {name for name in made if name.startswith("index sqlite_autoindex_")}
    declared = [("table", list(TABLES)), ("index", list(INDEXES)), ("view", list(VIEWS))]
    assert made == {f"{kind} {name}" for kind, names in declared for name in names}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_declared_as_the_migrations_create_it(store_path: Path, name: str) -> None:
    made = schema_of(store_path)[f"table {name}"]
    assert tokens(str(CreateTable(TABLES[name]).compile(dialect=dialect()))) == tokens(made)


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_is_declared_as_the_migrations_create_it(store_path: Path, name: str) -> None:
    made = schema_of(store_path)[f"index {name}"]
    assert tokens(str(CreateIndex(INDEXES[name]).compile(dialect=dialect()))) == tokens(made)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_comments_of_the_file(store_path: Path, name: str) -> None:
    comments = [TABLES[name].comment, *(column.comment for column in TABLES[name].columns)]
    assert COMMENT.findall(schema_of(store_path)[f"table {name}"]) == [text for text in comments if text]


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_the_declared_columns(store_path: Path, name: str) -> None:
    with opened(store_path) as connection:
        made = [column for _, column, *_ in connection.execute(f"PRAGMA table_info({name})")]
    assert made == list(VIEWS[name].columns.keys())


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_the_comments_of_the_file(store_path: Path, name: str) -> None:
    comments = [VIEWS[name].comment, *(column.comment for column in VIEWS[name].columns)]
    assert COMMENT.findall(schema_of(store_path)[f"view {name}"]) == comments


def test_the_file_has_the_contract_version(store_path: Path) -> None:
    with opened(store_path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.CONTRACT,)
        assert connection.execute("SELECT contract FROM store_list").fetchone() == (schema.CONTRACT,)


@pytest.fixture
def filled(store_path: Path) -> Path:
    with Store.open(store_path) as store:
        apply_all(store, {f"docker.io/library/app:{n}": image for n, image in enumerate(IMAGES)})
        store.pin(IMAGES[0].id, "docker.io/library/app:0")
    return store_path


@pytest.mark.parametrize("name", [*TABLES, *VIEWS])
def test_every_column_of_a_table_and_a_view_can_be_read(filled: Path, name: str) -> None:
    with schema.engine(filled).connect() as connection:
        connection.execute(select({**TABLES, **VIEWS}[name])).fetchall()


def test_a_view_returns_values_of_its_declared_types(filled: Path) -> None:
    images = schema.image_list
    with schema.engine(str(filled)).connect() as connection:
        (found,) = connection.execute(select(images).where(images.c.pinned))
    assert (found.id, found.reference_names, found.pinned) == (
        IMAGES[0].id,
        ["docker.io/library/app:0"],
        True,
    )


def test_an_engine_cannot_write(filled: Path) -> None:
    with schema.engine(filled).connect() as connection, pytest.raises(DBAPIError, match="readonly"):
        connection.execute(insert(schema.pinned_refs).values(reference="a", image_key=1))


def test_a_transaction_of_an_engine_is_one_snapshot(filled: Path) -> None:
    counting = select(func.count()).select_from(schema.images)
    with schema.engine(filled).connect() as connection, Store.open(filled) as store:
        before = connection.execute(counting).scalar()
        store.apply("docker.io/library/app:0", None)
        assert connection.execute(counting).scalar() == before


def test_an_engine_on_a_missing_store_is_refused(path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="no store at"):
        schema.engine(path)
    assert not path.exists()


def test_an_engine_on_an_older_store_is_refused(path: Path) -> None:
    with pytest.raises(SchemaVersionError, match="db migrate"):
        schema.engine(thawed("0001", path))


def test_an_engine_on_another_programs_database_is_refused(path: Path) -> None:
    foreign(path, "CREATE TABLE notes (text)")
    with pytest.raises(NotAStoreError):
        schema.engine(path)


def test_the_example_of_the_module_runs(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.__doc__
    code = schema.__doc__.split("::\n\n")[1].split("\n\nThe views")[0]
    code = "\n".join(line.removeprefix("    ") for line in code.splitlines())
    exec(code.replace("images.db", str(filled)), {})
    assert len(capsys.readouterr().out.splitlines()) == len({image.id for image in IMAGES})


def test_sqlite_accepts_a_declared_query_of_the_views(filled: Path) -> None:
    statement = str(select(schema.history_list.c.event).compile(dialect=dialect()))
    with sqlite3.connect(filled) as connection:
        assert connection.execute(statement).fetchone() == ("new",)
    connection.close()

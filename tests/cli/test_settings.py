"""Which store is meant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from imagekeep.cli.settings import SYSTEM_STORE, default_store

if TYPE_CHECKING:
    from tests.cli.conftest import Run


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user who is not root, with a home directory and nothing else."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/a")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


def test_root_has_the_systems_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_store() == SYSTEM_STORE == Path("/var/lib/imagekeep/images.db")


@pytest.mark.usefixtures("user")
def test_user_has_a_store_at_home() -> None:
    assert default_store() == Path("/home/a/.local/share/imagekeep/images.db")


@pytest.mark.usefixtures("user")
def test_user_may_have_another_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_store() == Path("/data/imagekeep/images.db")


@pytest.mark.usefixtures("user")
def test_data_directory_that_is_relative_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert default_store() == Path("/home/a/.local/share/imagekeep/images.db")


@pytest.mark.usefixtures("user")
def test_user_without_a_home_must_name_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(click.UsageError, match="--store"):
        default_store()


def test_option_comes_before_the_environment(run: Run) -> None:
    assert "none.db" in run("--store", "none.db", "images").err

"""The default store."""

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
    """Set the environment of an ordinary user with a home directory."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/a")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


def test_root_uses_the_system_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_store() == SYSTEM_STORE == Path("/var/lib/imagekeep/images.db")


@pytest.mark.usefixtures("user")
def test_user_has_a_store_in_the_home_directory() -> None:
    assert default_store() == Path("/home/a/.local/share/imagekeep/images.db")


@pytest.mark.usefixtures("user")
def test_data_directory_of_the_user_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_store() == Path("/data/imagekeep/images.db")


@pytest.mark.usefixtures("user")
def test_relative_data_directory_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert default_store() == Path("/home/a/.local/share/imagekeep/images.db")


@pytest.mark.usefixtures("user")
def test_user_without_a_home_must_name_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(click.UsageError, match="--store"):
        default_store()


def test_option_overrides_the_environment(run: Run) -> None:
    assert "none.db" in run("--store", "none.db", "images").err

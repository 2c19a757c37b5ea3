"""The data itself: where it comes from, and that a clone has all of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.conformance.data import BESIDE, COPY, directory, documents, read

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(not BESIDE.is_dir(), reason="a clone on its own has only the copy")
def test_the_copy_is_complete() -> None:
    """scripts/copy-conformance recreates it."""
    originals = {path.name: path.read_bytes() for path in BESIDE.glob("*.json")}
    assert {path.name.removesuffix(".gz"): read(path) for path in COPY.glob("*.json.gz")} == originals


def test_another_directory_is_read_by_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEKEEP_CONFORMANCE", str(tmp_path))
    for name in ("chainid.json", "chainid_2.json", "platforms.json"):
        (tmp_path / name).write_text(json.dumps({"cases": [name]}))
    assert directory() == tmp_path
    assert [name for name, _ in documents("chainid")] == ["chainid.json", "chainid_2.json"]


def test_a_subject_without_a_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEKEEP_CONFORMANCE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="chainid"):
        documents("chainid")

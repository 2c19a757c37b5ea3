"""Source specifiers."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from imagekeep.errors import InvalidArgumentError, InvalidReferenceError
from imagekeep.sources.archive import Archive
from imagekeep.sources.containerd import DEFAULT_SOCKET, Containerd
from imagekeep.sources.oci_layout import OCILayout
from imagekeep.sources.specifier import SCHEMES, open_source
from tests.images import LayoutWriter, named, tar_of_directory


def test_oci_names_a_directory(layout: LayoutWriter) -> None:
    source = open_source(f"oci:{layout.directory}")
    assert isinstance(source, OCILayout)
    assert source.directory == layout.directory


def test_a_path_may_have_colons() -> None:
    source = open_source("oci:/srv/a:b")
    assert isinstance(source, OCILayout)
    assert source.directory == Path("/srv/a:b")


def test_archive_names_a_file(layout: LayoutWriter, tmp_path: Path) -> None:
    layout.write_index([named(layout.image(), "example.test/app:v1")])
    file = tar_of_directory(layout.directory, tmp_path / "app.tar")
    source = open_source(f"archive:{file}")
    assert isinstance(source, Archive)
    assert source.get("example.test/app:v1")


@pytest.mark.parametrize(
    ("spec", "socket"),
    [
        ("containerd", DEFAULT_SOCKET),
        ("containerd:/srv/grpc", "/srv/grpc"),
        ("containerd:unix:///srv/grpc", "/srv/grpc"),
    ],
)
def test_containerd_names_a_socket_by_its_path_or_its_address(spec: str, socket: str) -> None:
    source = open_source(spec)
    assert isinstance(source, Containerd)
    assert source.socket == socket


def test_the_base_name_is_passed_on(layout: LayoutWriter) -> None:
    image = layout.image()
    layout.write_index([named(image, "v1")])
    source = open_source(f"oci:{layout.directory}", base_name="example.test/app")
    assert [record.reference for record in source.records()] == [
        "example.test/app:v1",
        f"example.test/app@{image['digest']}",
    ]


def test_a_dash_is_standard_input(layout: LayoutWriter, tmp_path: Path) -> None:
    layout.write_index([named(layout.image(), "v1")])
    file = tar_of_directory(layout.directory, tmp_path / "app.tar")
    program = (
        "from imagekeep.sources.specifier import open_source;"
        "print(open_source('archive:-', base_name='example.test/app').records()[0].reference)"
    )
    with file.open("rb") as stdin:
        printed = subprocess.run(
            [sys.executable, "-c", program], stdin=stdin, capture_output=True, check=True
        )
    assert printed.stdout == b"example.test/app:v1\n"


def test_standard_input_that_is_a_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(InvalidArgumentError, match="which is a terminal"):
        open_source("archive:-")


def test_standard_input_that_is_closed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InvalidArgumentError, match="standard input, which is closed"):
        open_source("archive:-")


@pytest.mark.parametrize("spec", ["", "layout", "docker:x", "/srv/shop", "OCI:x", "\x1b[2J:x"])
def test_an_unknown_scheme_is_refused_with_those_that_are_known(spec: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        open_source(spec)
    assert all(scheme in str(caught.value) for scheme in SCHEMES)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("spec", ["oci", "oci:", "archive", "archive:", "oci:a\0b", "containerd:unix://"])
def test_a_place_that_is_no_path_is_refused_with_the_form(spec: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"must be (oci:DIRECTORY|archive:FILE|containerd:SOCKET)"):
        open_source(spec)


def test_an_invalid_base_name_is_refused() -> None:
    with pytest.raises(InvalidReferenceError):
        open_source("oci:x", base_name="Shop:v1")

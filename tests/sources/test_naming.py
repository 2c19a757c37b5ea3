"""Names of entries: the order of their annotations, the base name, and invalid names."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagekeep.errors import InvalidReferenceError
from imagekeep.reference import Reference
from imagekeep.sources.naming import IMAGE_NAME, REF_NAME, Names, default_base_name, names_of, parse_base_name

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
BASE = Reference("docker.io", "library/shop")


def names(annotations: dict[str, str], digest: str = DIGEST, base: Reference | None = BASE) -> Names:
    return names_of(annotations, digest, base)


@pytest.mark.parametrize(
    ("annotations", "tag"),
    [
        ({IMAGE_NAME: "example.test/app:v1"}, "example.test/app:v1"),
        ({IMAGE_NAME: "busybox"}, "docker.io/library/busybox:latest"),
        ({IMAGE_NAME: "example.test/a:v1", REF_NAME: "example.test/b:v1"}, "example.test/a:v1"),
        ({REF_NAME: "example.test/app:v1"}, "example.test/app:v1"),
        ({REF_NAME: "busybox:1.36"}, "docker.io/library/busybox:1.36"),
        ({REF_NAME: "shop/app"}, "docker.io/shop/app:latest"),
        ({REF_NAME: "v1"}, "docker.io/library/shop:v1"),
        ({IMAGE_NAME: "Not A Name", REF_NAME: "v1"}, "docker.io/library/shop:v1"),
        ({IMAGE_NAME: "", REF_NAME: "v1"}, "docker.io/library/shop:v1"),
    ],
)
def test_the_first_annotation_that_is_a_reference_names_the_entry(
    annotations: dict[str, str], tag: str
) -> None:
    assert names(annotations).tag == tag


@pytest.mark.parametrize(
    "annotations",
    [{}, {REF_NAME: ""}, {REF_NAME: "1.0+build"}, {REF_NAME: "UPPER:v1"}, {IMAGE_NAME: "x" * 300}],
)
def test_an_entry_without_a_usable_name_has_the_base_name_at_its_digest(annotations: dict[str, str]) -> None:
    named = names(annotations)
    assert (named.tag, named.at_digest, named.own) == (None, f"docker.io/library/shop@{DIGEST}", False)
    assert bool(named.dropped) == any(annotations.values())


def test_an_entry_has_its_own_repository_at_its_digest() -> None:
    assert names({IMAGE_NAME: "example.test/app:v1"}).at_digest == f"example.test/app@{DIGEST}"


@pytest.mark.parametrize("digest", [DIGEST, OTHER])
@pytest.mark.parametrize("annotation", [IMAGE_NAME, REF_NAME])
def test_of_a_name_with_any_digest_the_repository_and_the_tag_count(annotation: str, digest: str) -> None:
    target = f"example.test/app@{DIGEST}"
    tagged = Names("example.test/app:v1", target, own=True)
    assert names({annotation: f"example.test/app:v1@{digest}"}) == tagged
    assert names({annotation: f"example.test/app@{digest}"}) == Names(None, target, own=True)


@pytest.mark.parametrize(
    ("annotations", "dropped"),
    [
        ({REF_NAME: "1.0+build"}, ['"1.0+build": not a tag']),
        ({REF_NAME: "UPPER:v1"}, ['"UPPER:v1": remote not lowercase']),
        ({IMAGE_NAME: "Not A Name", REF_NAME: "v1"}, ['"Not A Name": remote not lowercase']),
        ({IMAGE_NAME: "a", REF_NAME: "+"}, []),
        ({REF_NAME: "\x1b[31m"}, ['"\\x1b[31m": not a tag']),
    ],
)
def test_a_name_that_is_dropped_is_told_with_the_reason(
    annotations: dict[str, str], dropped: list[str]
) -> None:
    assert list(names(annotations).dropped) == dropped


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + "a" * 32, "../../etc/passwd"])
def test_a_digest_that_is_none_stands_in_no_reference(digest: str) -> None:
    assert names({REF_NAME: "v1"}, digest) == Names("docker.io/library/shop:v1", None, own=True)


def test_without_a_base_name_a_tag_alone_names_nothing() -> None:
    named = names({REF_NAME: "v1"}, base=None)
    assert (named.tag, named.at_digest) == (None, f"docker.io/library/import@{DIGEST}")
    assert named.dropped == ('"v1": no repository to put the tag in',)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/shop", "docker.io/library/shop"),
        ("/srv/shop/", "docker.io/library/shop"),
        ("/srv/x/../shop", "docker.io/library/shop"),
        ("Shop.tar.gz", "docker.io/library/shop"),
        ("shop.tgz", "docker.io/library/shop"),
        ("shop-1.2.tar", "docker.io/library/shop-1.2"),
        ("shop.oci", "docker.io/library/shop.oci"),
    ],
)
def test_the_base_name_is_the_file_s_in_lower_case_without_an_archive_s_suffix(path: str, name: str) -> None:
    assert str(default_base_name(Path(path))) == name


@pytest.mark.parametrize("path", ["/", "my shop", "_shop", "ü", ".tar", "a" * 64, "shop:v1", "x" * 300])
def test_a_file_s_name_that_is_no_repository_s_gives_no_base_name(path: str) -> None:
    assert default_base_name(Path(path)) is None


def test_the_current_directory_gives_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    assert str(default_base_name(Path())) == "docker.io/library/shop"


@pytest.mark.parametrize("name", ["shop:v1", f"shop@{DIGEST}", "Shop", "", " "])
def test_a_given_base_name_is_a_bare_repository(name: str) -> None:
    with pytest.raises(InvalidReferenceError):
        parse_base_name(name)

"""Filters of images: what podman 4.3.1 answered over the same facts, and where imagekeep chooses otherwise."""

from __future__ import annotations

import enum
import json
import re
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from imagekeep import Reader, Store
from imagekeep.database.listing import Facts, list_images
from imagekeep.digest import digest_of
from imagekeep.errors import ImagekeepError
from imagekeep.image import ObservedImage
from imagekeep.questions.filters import parse_filters
from imagekeep.questions.globs import ReferenceGlob
from imagekeep.reader import ask
from tests.conformance.data import cases, documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.data import Case

HOUR = 3600 * 1_000_000_000
HIDDEN = {"mid", "mid2"}
"""Images without a name that others were built upon, which podman hides without -a."""

FOREIGN_KEYS = ("intermediate", "readonly", "containers", "manifest")
CASES = [pytest.param(case, id=name) for name, case in cases("image_filters_podman") if "filters" in case]
IMAGES = {
    image["key"]: image for _, document in documents("image_filters_podman") for image in document["images"]
}


class Departure(enum.StrEnum):
    """Where imagekeep answers otherwise than podman 4.3.1."""

    KEY = "podman's keys for its own storage are unknown, and digest and size are known"
    TRUTH = "an image without a name is dangling, whatever was built upon it"
    AND = "filters of one key are joined by AND, but for reference="
    REFERENCE = "a pattern is matched as docker matches it, and a malformed one is an error"
    TRUNCATED = "an id may be truncated, and may name its algorithm"
    TIME = "days and words are times"
    EMPTY = "an empty id is an error"


def departure(case: Case) -> Departure | None:
    """Name the departure of a case by its filters alone."""
    pairs = [re.split("!?=", text, maxsplit=1) for text in case["filters"] if "=" in text]
    for key, value in pairs:
        if found := departure_of_filter(key, value):
            return found
    keys = [key for key, _ in pairs if key != "reference"]
    differing = {tuple(pair) for pair in pairs if keys.count(pair[0]) > 1}
    return Departure.AND if len(differing) > 1 and "dangling" not in keys else None


def departure_of_filter(key: str, value: str) -> Departure | None:
    if key in FOREIGN_KEYS or key in ("digest", "size"):
        return Departure.KEY
    if key == "dangling" and value.lower()[:1] in ("t", "1", "f", "0"):
        return Departure.TRUTH
    if key == "id" and len(value) != 64:
        return Departure.TRUNCATED if value else Departure.EMPTY
    if key == "until" and value in ("yesterday", "1d"):
        return Departure.TIME
    return Departure.REFERENCE if key == "reference" else None


@pytest.fixture(scope="module")
def keys_by_id() -> dict[str, str]:
    return {digest_of(config_of(image)): key for key, image in IMAGES.items()}


class Asked(NamedTuple):
    """The store of podman's images, and an hour after they were loaded."""

    reader: Reader
    now: int


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    path = tmp_path_factory.mktemp("podman") / "images.db"
    with Store.open(path) as store:
        for image in IMAGES.values():
            config = config_of(image)
            observed = ObservedImage(digest_of(config), "", image["podman_size"], config, image["manifest"])
            for name in image["names"] or [observed.id]:
                store.apply(name, observed)
    with Reader.open(path) as reader:
        yield Asked(reader, time.time_ns() + HOUR)


def config_of(image: Case) -> bytes:
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Labels": image["labels"]},
        "key": image["key"],
    }
    return json.dumps(config | ({"created": image["created"]} if image["created"] else {})).encode()


def translated(text: str) -> str:
    """Replace the ids of podman's images by those of the store's, truncated alike."""
    match = re.fullmatch(r"(.*=(?:sha256:)?)([0-9a-f]{3,64})", text)
    if match is None or text.startswith(("reference", "digest")):
        return text
    for image in IMAGES.values():
        if image["id"].startswith(match[2]):
            return match[1] + digest_of(config_of(image)).removeprefix("sha256:")[: len(match[2])]
    return text


def answer(asked: Asked, filters: list[str], keys_by_id: dict[str, str]) -> set[str] | None:
    """Return the keys of the images that pass, or None for an error."""
    try:
        parsed = parse_filters(map(translated, filters))
        images = ask(asked.reader, list_images, parsed, Facts(), asked.now)
    except ImagekeepError:
        return None
    return {keys_by_id[image.id] for image in images}


def visible(case: Case, found: set[str] | None) -> set[str] | None:
    return found if found is None or case["all"] else found - HIDDEN


@pytest.mark.parametrize("case", [case for case in CASES if departure(case.values[0]) is None])  # type: ignore[arg-type]
def test_a_filter_answers_as_podman_does(case: Case, asked: Asked, keys_by_id: dict[str, str]) -> None:
    found = answer(asked, case["filters"], keys_by_id)
    assert visible(case, found) == (None if "error" in case else set(case["images"]))


@pytest.mark.parametrize("case", [case for case in CASES if departure(case.values[0]) is not None])  # type: ignore[arg-type]
def test_a_departure_answers_as_it_says(case: Case, asked: Asked, keys_by_id: dict[str, str]) -> None:
    found = answer(asked, case["filters"], keys_by_id)
    alone = [answer(asked, [text], keys_by_id) for text in case["filters"]]
    match departure(case):
        case Departure.AND:
            assert found == set.intersection(*(one or set() for one in alone))
        case Departure.TRUTH:
            assert found == expected_truth(case["filters"], alone)
        case Departure.REFERENCE:
            assert found == expected_references(case["filters"], alone)
        case Departure.TRUNCATED:
            assert found == expected_ids(case["filters"])
        case Departure.KEY:
            foreign = case["filters"][0].startswith(FOREIGN_KEYS)
            assert (found is None) == (foreign or case["filters"][0] == "digest=sha512:00x")
        case Departure.EMPTY:
            assert found is None
        case Departure.TIME:
            assert found is not None


def expected_truth(filters: list[str], alone: list[set[str] | None]) -> set[str] | None:
    nameless = {key for key, image in IMAGES.items() if not image["names"]}
    wanted = {
        not (("!" in text) ^ (text[-1] in "0fF" or text.endswith(("false", "FALSE"))))
        for text in filters
        if text.startswith("dangling")
    }
    if len(wanted) > 1:
        return None
    [dangling] = wanted
    others = [
        one or set() for text, one in zip(filters, alone, strict=True) if not text.startswith("dangling")
    ]
    return set.intersection(nameless if dangling else IMAGES.keys() - nameless, *others)


def expected_references(filters: list[str], alone: list[set[str] | None]) -> set[str] | None:
    patterns = [text.removeprefix("reference=") for text in filters if text.startswith("reference=")]
    left_out = [text.removeprefix("reference!=") for text in filters if text.startswith("reference!=")]
    if None in alone:
        assert "[" in patterns
        return None
    found = {
        key
        for key, image in IMAGES.items()
        if (not patterns or any(matches(pattern, image) for pattern in patterns))
        and not any(matches(pattern, image) for pattern in left_out)
    }
    return set.intersection(
        found, *(one or set() for text, one in zip(filters, alone, strict=True) if "reference" not in text)
    )


def matches(pattern: str, image: Case) -> bool:
    return any(ReferenceGlob(pattern).matches_reference(name, image["manifest"]) for name in image["names"])


def expected_ids(filters: list[str]) -> set[str]:
    [prefix] = [translated(text).partition("=")[2].removeprefix("sha256:") for text in filters]
    return {
        key
        for key, image in IMAGES.items()
        if digest_of(config_of(image)).removeprefix("sha256:").startswith(prefix)
    }


def test_each_departure_is_met() -> None:
    assert {departure(case.values[0]) for case in CASES} == {None, *Departure}  # type: ignore[arg-type]

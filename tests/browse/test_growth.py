"""The growth of a node, from its history."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from imagekeep.browse.growth import HEIGHT, POINTS, WIDTH, Change, Point, chart, grow, human, thin


def test_an_image_counts_once_while_a_reference_names_it() -> None:
    changes = [
        Change(1, "a", "one", 10),
        Change(2, "b", "one", 10),
        Change(3, "a", "two", 30),
        Change(4, "b", None, 0),
        Change(5, "b", None, 0),
        Change(6, "a", None, 0),
    ]
    assert [(point.images, point.size) for point in grow(changes)] == [
        (1, 10),
        (1, 10),
        (2, 40),
        (1, 30),
        (1, 30),
        (0, 0),
    ]


def test_a_long_history_is_thinned_to_its_ends_and_some_between() -> None:
    points = [Point(n, n, n) for n in range(100_001)]
    thinned = thin(points)
    assert (thinned[0], thinned[-1]) == (points[0], points[-1])
    assert len(thinned) <= 2 * POINTS
    assert thin(points[:1]) == points[:1]


@pytest.mark.parametrize("points", [[], [Point(1, 1, 1)], [Point(1, 1, 1), Point(1, 2, 2)]])
def test_there_is_no_chart_without_a_span_of_time(points: list[Point]) -> None:
    assert chart(points, "a", "b") == ""


def test_a_chart_is_well_formed_and_within_its_frame() -> None:
    drawn = chart([Point(0, 1, 5), Point(50, 2, 0), Point(100, 3, 2_000_000)], "<first>", "last & on")
    root = ElementTree.fromstring(drawn)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["2 MB", "0", "<first>", "last & on"]
    steps = root.findall("{http://www.w3.org/2000/svg}path")[1].attrib["d"].split()
    across = [float(step[1:]) for step in steps if step[0] == "H"]
    up = [float(step[1:]) for step in steps if step[0] == "V"]
    assert across == sorted(across)
    assert max(across) <= WIDTH
    assert min(up) >= 0
    assert max(up) <= HEIGHT


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (32_930_497, "32.9 MB"), (10**19, "10 EB")]
)
def test_a_size_is_readable(size: int, text: str) -> None:
    assert human(size) == text

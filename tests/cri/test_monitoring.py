"""The alerts and the dashboard, against the metrics of a real server and in a real Prometheus."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.containerd import running, wait_until
from tests.cri.client import named
from tests.cri.process import serving
from tests.tools import require, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHECKOUT = Path(__file__).parents[2]
ALERTS = CHECKOUT / "packaging/prometheus/alerts.yaml"
DASHBOARD = json.loads((CHECKOUT / "packaging/grafana/imagekeep.json").read_text(encoding="utf-8"))
METRIC = re.compile(r"\bimagekeep_\w+")

PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        number: int = taken.getsockname()[1]
        return number


def fetch(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as reply:
        text: str = reply.read().decode()
        return text


class Scraped:
    """A Prometheus that scrapes a server."""

    def __init__(self, port: int, target: str) -> None:
        self._target = target
        self._address = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of a reply; fail with Prometheus's own error."""
        answer = json.loads(fetch(f"{self._address}/{path}?{urllib.parse.urlencode(parameters)}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> Sequence[Any]:
        """Return the series of an expression now."""
        result: Sequence[Any] = self.ask("query", query=expression)["result"]
        return result

    @property
    def page(self) -> str:
        """Return what the server shows now."""
        return fetch(self._target)

    @property
    def families(self) -> dict[str, str]:
        """Return the types of all metrics by name, as the server declares them."""
        return dict(re.findall(r"^# TYPE (\S+) (\S+)$", self.page, re.MULTILINE))

    @property
    def samples(self) -> set[str]:
        """Return the names of the metrics that have a value."""
        return set(re.findall(r"^(imagekeep_\w+)", self.page, re.MULTILINE))


@contextmanager
def prometheus(directory: Path, target: int) -> Iterator[int]:
    """Run a Prometheus that scrapes a port every second; yield its own port."""
    port = free_port()
    scrape = [{"job_name": "imagekeep", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}]
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": scrape,
    }
    (directory / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML
    command = [
        require("prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Scrape a server that follows a real containerd, has compared its CRI, and has answered calls."""
    directory, target = tmp_path_factory.mktemp("monitoring"), free_port()
    options = ("--metrics", f"127.0.0.1:{target}", "--cri-check", "0.5")
    page = f"http://127.0.0.1:{target}/metrics"
    with running(directory / "containerd") as daemon:
        daemon.make_image(directory / "image", "example.test/app:v1")
        with (
            serving(directory, *options, source=f"containerd:{daemon.socket}") as server,
            server.client() as client,
            prometheus(directory, target) as port,
        ):
            client.ask("ImageStatus", named("example.test/app:v1"))
            daemon.make_image(directory / "later", "example.test/later:v1")
            wait_until(lambda: "imagekeep_cri_drift_names{" in fetch(page))
            wait_until(lambda: "imagekeep_images 2.0" in fetch(page))
            wait_until(lambda: "imagekeep_last_event_timestamp_seconds " in fetch(page))
            scraped = Scraped(port, page)
            wait_until(lambda: is_ready(scraped))
            yield scraped


def is_ready(scraped: Scraped) -> bool:
    """Return whether Prometheus has several samples of each series."""
    try:
        return bool(scraped.query("count_over_time(imagekeep_cri_drift_checked_timestamp_seconds[1m]) > 2"))
    except OSError:
        return False


def is_declared(name: str, families: dict[str, str]) -> bool:
    histogram = re.sub("_(bucket|sum|count)$", "", name)
    return families.get(name) in ("gauge", "counter") or families.get(histogram) == "histogram"


def alert_expressions(scraped: Scraped) -> dict[str, str]:
    """Return the expression of each alert, as Prometheus has read it."""
    (group,) = scraped.ask("rules")["groups"]
    return {rule["name"]: rule["query"] for rule in group["rules"]}


def filled_in(expression: str) -> str:
    """Return an expression of the dashboard with Grafana's variables replaced."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*")


def test_promtool_accepts_the_alerts() -> None:
    assert b"SUCCESS" in run("promtool", "check", "rules", ALERTS)


def test_alerts_pass_their_unit_tests() -> None:
    assert b"SUCCESS" in run("promtool", "test", "rules", ALERTS.with_name("alerts_test.yaml"))


def test_each_alert_is_tested_both_ways(scraped: Scraped) -> None:
    text = ALERTS.with_name("alerts_test.yaml").read_text(encoding="utf-8")
    tested = set(re.findall(r"name: (\w+) (fires|does not fire)", text))
    assert tested == {
        (name, how) for name in alert_expressions(scraped) for how in ("fires", "does not fire")
    }


def test_promtool_accepts_the_metrics(scraped: Scraped) -> None:
    assert run("promtool", "check", "metrics", stdin=scraped.page.encode()) == b""


def test_no_alert_fires_on_a_healthy_node(scraped: Scraped) -> None:
    assert [name for name, query in alert_expressions(scraped).items() if scraped.query(query)] == []


def test_alerts_use_metrics_that_exist(scraped: Scraped) -> None:
    used = {name for query in alert_expressions(scraped).values() for name in METRIC.findall(query)}
    assert [name for name in sorted(used) if not is_declared(name, scraped.families)] == []


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_dashboard_shows_metrics_that_exist(scraped: Scraped, expression: str) -> None:
    used = METRIC.findall(expression)
    assert used
    assert [name for name in used if not is_declared(name, scraped.families)] == []
    # Prometheus is a second behind, and what is known may have changed in it.
    wait_until(
        lambda: bool(scraped.query(filled_in(expression))) == all(name in scraped.samples for name in used)
    )


def test_dashboard_lists_the_nodes(scraped: Scraped) -> None:
    (variable,) = [each for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
    assert len(scraped.ask(f"label/{label}/values", **{"match[]": name})) == 1


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        cells |= covered


def test_documentation_lists_every_metric(scraped: Scraped) -> None:
    table = (CHECKOUT / "docs/operations.md").read_text(encoding="utf-8").partition("<!-- metrics -->")[2]
    assert set(re.findall(r"^\| `(imagekeep_\w+)", table, re.MULTILINE)) == {
        name for name in scraped.families if name.startswith("imagekeep_") and not name.endswith("_created")
    }

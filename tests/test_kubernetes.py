"""packaging/kubernetes: valid for each supported Kubernetes, and in step with the program and the image."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from imagekeep.cli.serve import serve_images

PACKAGING = Path(__file__).parents[1] / "packaging"
BASE, MONITORING = PACKAGING / "kubernetes" / "base", PACKAGING / "kubernetes" / "monitoring"
KINDS = ("namespace", "priorityclass", "serviceaccount", "daemonset")

VERSIONS = ("1.27", "1.30", "1.33", "newest")
"""From the first whose probes of gRPC are stable to the newest that the validator knows."""


def module(name: str) -> Any:
    """Return a module of the development dependencies; skip the test where it is missing, or fail it in CI."""
    if os.environ.get("CI"):
        return importlib.import_module(name)
    return pytest.importorskip(name)


def load(file: Path) -> Any:
    """Return the document of a YAML file."""
    return module("yaml").safe_load(file.read_text())


@pytest.fixture(scope="module")
def pod() -> Any:
    """Return the pods' specification."""
    return load(BASE / "daemonset.yaml")["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    """Return the only container of a pod."""
    (container,) = pod["containers"]
    return container


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_object_has_the_published_schema(kind: str, version: str) -> None:
    validator = module("kubernetes_validate")
    document = load(BASE / f"{kind}.yaml")
    version = validator.latest_version() if version == "newest" else version
    validator.validate(document, version, strict=True)
    with pytest.raises(validator.ValidationError):
        validator.validate({**document, "specs": {}}, version, strict=True)


@pytest.mark.parametrize("directory", [BASE, MONITORING], ids=["base", "monitoring"])
def test_kustomize_takes_every_file(directory: Path) -> None:
    named = {directory / name for name in load(directory / "kustomization.yaml")["resources"]}
    files = {file for file in directory.glob("*.yaml") if file.name != "kustomization.yaml"}
    assert {path.resolve() for path in named} == files | ({BASE} if directory is MONITORING else set())


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_builds_what_the_files_say() -> None:
    built = subprocess.check_output(["kubectl", "kustomize", str(MONITORING)], text=True)
    documents = {each["kind"]: each for each in module("yaml").safe_load_all(built)}
    assert set(documents) == {"Namespace", "PriorityClass", "ServiceAccount", "DaemonSet", "PodMonitor"}
    assert documents["DaemonSet"] == load(BASE / "daemonset.yaml")


def test_the_files_are_well_formed() -> None:
    module("yamllint")
    command = [sys.executable, "-m", "yamllint", "--strict", "-c", PACKAGING / ".yamllint.yaml", PACKAGING]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_program_knows_the_arguments_and_the_ports_are_theirs(container: Any) -> None:
    name, *words = container["args"]
    parameters = serve_images.make_context(name, words).params
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {name: int(parameters[name].rpartition(":")[2]) for name in ("metrics", "health")}
    probes = {
        container[probe]["grpc"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert probes == {ports["health"]}


def test_the_pod_mounts_what_the_program_uses_and_nothing_else(pod: Any, container: Any) -> None:
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert paths == mounts
    assert set(paths.values()) == {"/run/containerd", "/var/lib/imagekeep", "/run/imagekeep"}


def test_the_pod_may_do_nothing_beyond_reaching_the_socket(pod: Any, container: Any) -> None:
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not pod["automountServiceAccountToken"]
    assert not load(BASE / "serviceaccount.yaml")["automountServiceAccountToken"]


def test_prometheus_finds_the_pods_port(container: Any) -> None:
    monitor = load(MONITORING / "podmonitor.yaml")
    labels = load(BASE / "daemonset.yaml")["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in container["ports"]}


def test_the_pods_run_this_version(container: Any) -> None:
    project = tomllib.loads((PACKAGING.parent / "pyproject.toml").read_text())["project"]
    assert container["image"].endswith(f"/imagekeep:{project['version']}")

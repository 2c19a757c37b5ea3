"""The Debian package, on a copy of this machine's root file system that is gone after the test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from imagekeep.database.create import read_revision
from imagekeep.database.revision import HEAD
from tests.containerd import running
from tests.packages.conftest import PACKAGING
from tests.tools import require

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[1] / "data"

STORE = "/var/lib/imagekeep/images.db"

# The upper layer is in memory: the root file system may be an overlay itself.
PREPARE = """
set -e
mount -t tmpfs machine "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay machine -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
rm -rf "$1/root/etc/imagekeep" "$1/root/var/lib/imagekeep"
echo ready
exec cat
"""


class Machine:
    """This machine's root file system beneath an empty layer, in a mount namespace of its own."""

    def __init__(self, directory: Path) -> None:
        self._root = directory / "root"
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            PREPARE,
            "sh",
            str(directory),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, *command: str | Path, fails: bool = False) -> str:
        """Run a command and return what it printed, both streams; nothing can answer a question of it."""
        done = self._run("chroot", self._root, *command)
        assert bool(done.returncode) is fails, done.stdout
        return done.stdout

    def bind(self, outside: Path, inside: str) -> None:
        """Show a directory of this machine at a path of the copy."""
        self.run("mkdir", "-p", inside)
        assert self._run("mount", "--bind", outside, f"{self._root}{inside}").returncode == 0

    def has(self, path: str) -> bool:
        """Return whether a path exists."""
        return self._run("chroot", self._root, "test", "-e", path).returncode == 0

    def _run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package."""
    require("dpkg-buildpackage")
    directory = tmp_path_factory.mktemp("package")
    done = subprocess.run(
        [PACKAGING / "debian" / "build", directory], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = directory.glob("imagekeep_*.deb")
    return built


@pytest.fixture(scope="module")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package with a higher version."""
    directory = tmp_path_factory.mktemp("newer")
    subprocess.run(["dpkg-deb", "--raw-extract", package, directory / "tree"], check=True)
    control = directory / "tree" / "DEBIAN" / "control"
    control.write_text(re.sub("(?m)^Version: .*", "Version: 99.0", control.read_text()))
    subprocess.run(["dpkg-deb", "-Znone", "--build", directory / "tree", directory / "newer.deb"], check=True)
    return directory / "newer.deb"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Yield a machine without imagekeep."""
    if os.geteuid():
        pytest.skip("only root may mount a copy of the root file system")
    directory = tmp_path / "machine"
    directory.mkdir()
    with Machine(directory) as machine:
        yield machine


@pytest.fixture
def installed(machine: Machine, package: Path) -> Machine:
    """Yield a machine with the package."""
    machine.bind(package.parent, "/srv/package")
    machine.run("dpkg", "--install", f"/srv/package/{package.name}")
    return machine


def test_lintian_finds_nothing(package: Path) -> None:
    done = subprocess.run(
        [require("lintian"), "--allow-root", "--fail-on", "error,warning", package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_command_the_manual_and_the_units_are_installed(installed: Machine) -> None:
    assert "imagekeep 0.1.0" in installed.run("imagekeep", "--version")
    for file in (
        "/usr/share/man/man1/imagekeep.1.gz",
        "/usr/share/bash-completion/completions/imagekeep",
        "/usr/share/zsh/vendor-completions/_imagekeep",
        "/usr/share/fish/vendor_completions.d/imagekeep.fish",
    ):
        assert installed.run("dpkg", "--search", file) == f"imagekeep: {file}\n"
    for unit in ("watch", "serve", "ship"):
        assert f"ExecStart=/usr/bin/imagekeep {unit}" in installed.run(
            "cat", f"/lib/systemd/system/imagekeep-{unit}.service"
        )


def test_the_watcher_starts_with_the_machine_and_the_others_do_not(installed: Machine) -> None:
    wants = installed.run("ls", "/etc/systemd/system/multi-user.target.wants").split()
    assert [unit for unit in wants if unit.startswith("imagekeep")] == ["imagekeep-watch.service"]


def test_every_option_of_the_shipped_configuration_is_known(installed: Machine) -> None:
    installed.run("sed", "-i", "s/^#\\([a-z[]\\)/\\1/", "/etc/imagekeep/imagekeep.toml")
    shown = installed.run("imagekeep", "config", "show")
    assert re.search(r"(?m)^serve\.metrics +127\.0\.0\.1:9323 +/etc/imagekeep/imagekeep\.toml", shown), shown


def test_it_reads_containerd(installed: Machine, tmp_path: Path) -> None:
    with running(tmp_path / "containerd") as daemon:
        daemon.make_image(tmp_path / "image", "example.test/image:v1")
        installed.bind(Path(daemon.socket).parent, "/srv/containerd")
        installed.run("imagekeep", "--source", "containerd:/srv/containerd/grpc", "sync", "-q")
    assert "example.test/image" in installed.run("imagekeep", "images")


def test_an_upgrade_keeps_the_store_and_the_configuration_and_migrates(
    installed: Machine, newer: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    shutil.copyfile(DATA / "stores" / "0001.db", state / "images.db")
    installed.bind(state, "/var/lib/imagekeep")
    installed.run("sh", "-c", 'echo "# changed" >> /etc/imagekeep/imagekeep.toml')

    installed.bind(newer.parent, "/srv/newer")
    installed.run("dpkg", "--install", f"/srv/newer/{newer.name}")

    assert read_revision(state / "images.db") == HEAD
    assert len(installed.run("imagekeep", "images", "-q").split()) == 4
    assert installed.run("tail", "-n", "1", "/etc/imagekeep/imagekeep.toml") == "# changed\n"


def test_a_store_that_cannot_be_migrated_does_not_stop_an_upgrade(installed: Machine, newer: Path) -> None:
    installed.run("mkdir", "-p", "/var/lib/imagekeep")
    installed.run("sh", "-c", f"echo garbage > {STORE}")
    installed.bind(newer.parent, "/srv/newer")
    installed.run("dpkg", "--install", f"/srv/newer/{newer.name}")
    assert installed.run("cat", STORE) == "garbage\n"


def test_a_purge_asks_nothing_and_leaves_what_it_says(installed: Machine) -> None:
    installed.run("imagekeep", "--source", f"oci:{DATA / 'layout'}", "sync", "-q")
    removed = installed.run("dpkg", "--remove", "imagekeep")
    assert "/var/lib/imagekeep" not in removed
    assert installed.has("/etc/imagekeep/imagekeep.toml")

    said = installed.run("dpkg", "--purge", "imagekeep")

    assert "left in /var/lib/imagekeep (to remove them: rm -r /var/lib/imagekeep)" in said
    assert installed.has(STORE)
    places = ["/etc", "/usr/bin", "/usr/lib", "/usr/share", "/lib/systemd", "/var/lib", "/var/cache"]
    left = installed.run("find", *places, "-xdev", "-name", "*imagekeep*", "-not", "-path", "/srv/*").split()
    assert left == ["/var/lib/imagekeep"]
    installed.run("rm", "-r", "/var/lib/imagekeep")


def test_a_purge_without_a_store_says_nothing(installed: Machine) -> None:
    assert "imagekeep: the store" not in installed.run("dpkg", "--purge", "imagekeep")
    assert not installed.has("/etc/imagekeep")

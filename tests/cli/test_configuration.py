"""The configuration file: what it sets, what overrides it, and which mistakes are found."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click
import pytest

from imagekeep.cli.config import HIDDEN, hide_secrets
from imagekeep.cli.configuration import (
    BYTES_MAX,
    SYSTEM_CONFIGURATION,
    all_commands,
    configurable_options,
    read_configuration,
    wrong_type,
)
from imagekeep.cli.root import root
from imagekeep.errors import PermissionDeniedError
from tests.cli.session import run_line
from tests.permissions import without_privileges

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Run


@pytest.fixture
def write(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that writes the configuration file."""
    monkeypatch.setenv("IMAGEKEEP_CONFIG", "imagekeep.toml")

    def write_text(text: str) -> None:
        (directory / "imagekeep.toml").write_text(text)

    return write_text


def shown(run: Run, *arguments: str) -> dict[str, tuple[Any, str]]:
    """Return the value and the origin of each option, as `config show` prints them."""
    document = json.loads(run(*arguments, "config", "show", "-o", "json").out)
    return {each["key"]: (each["value"], each["origin"]) for each in document["options"]}


def test_file_sets_global_options(
    run: Run, write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMAGEKEEP_STORE")
    write('store = "images.db"\nsource = "oci:busybox"\n')
    assert "synced 5 references" in run("sync").out
    assert len(run("images", "-q").lines) == 2


def test_file_sets_the_options_of_a_command(run: Run, write: Callable[[str], None]) -> None:
    write('[images]\noutput = "json"\n[query]\nlimit = 1\n')
    assert json.loads(run("images").out)["images"]
    assert len(run("query", "-n", "VALUES (1), (2)").lines) == 1


def test_options_of_one_command_do_not_reach_another(run: Run, write: Callable[[str], None]) -> None:
    write("[images]\nquiet = true\n")
    assert run("image", "ls").out != run("images").out


def test_table_of_an_alias_is_that_of_the_command(run: Run, write: Callable[[str], None]) -> None:
    write("[image.ls]\nquiet = true\n")
    assert run("image", "list").out == run("images", "-q").out


def test_environment_overrides_the_file_and_an_option_both(
    run: Run, write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write('source = "oci:file"\nnamespace = "file"\n')
    assert shown(run)["source"] == ("oci:file", "imagekeep.toml")
    monkeypatch.setenv("IMAGEKEEP_SOURCE", "oci:environment")
    assert shown(run)["source"] == ("oci:environment", "IMAGEKEEP_SOURCE")
    assert shown(run, "--source", "oci:option")["source"] == ("oci:option", "command line")
    after = json.loads(run("config", "show", "-o", "json", "--source", "oci:after").out)["options"]
    assert after[1] == {"key": "source", "value": "oci:after", "origin": "command line"}
    assert shown(run)["namespace"] == ("file", "imagekeep.toml")


@pytest.mark.parametrize(
    ("variable", "key", "value"),
    [
        ("IMAGEKEEP_PLATFORM", "platform", ["linux/s390x", "linux/arm64"]),
        ("IMAGEKEEP_BASE_NAME", "base-name", "linux/s390x linux/arm64"),
    ],
)
def test_every_global_option_has_a_variable(
    run: Run,
    write: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    key: str,
    value: str | list[str],
) -> None:
    write(f'{key} = "linux/arm64"\n')
    monkeypatch.setenv(variable, "linux/s390x linux/arm64")
    assert shown(run)[key] == (value, variable)


def test_file_overrides_what_the_units_set(
    run: Run, write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("")
    monkeypatch.setenv("IMAGEKEEP_DEFAULT_SOURCE", "containerd")
    assert shown(run)["source"] == ("containerd", "default")
    write('source = "oci:file"\n')
    assert shown(run)["source"] == ("oci:file", "imagekeep.toml")


def test_services_are_always_shown(run: Run, write: Callable[[str], None]) -> None:
    write('[serve]\nmetrics = "127.0.0.1:9323"\n')
    options = shown(run)
    assert options["serve.metrics"] == ("127.0.0.1:9323", "imagekeep.toml")
    assert options["serve.socket-mode"] == ("0600", "default")
    assert options["serve.socket-group"] == (None, "default")
    assert options["watch.log-level"] == ("info", "default")
    assert "query.limit" not in options


def test_defaults_are_shown_as_what_they_come_to(run: Run, write: Callable[[str], None]) -> None:
    write('source = "containerd"\n')
    options = shown(run)
    assert options["namespace"] == ("k8s.io", "default")


def test_all_options_can_be_shown(run: Run, write: Callable[[str], None]) -> None:
    write("")
    everything = json.loads(run("config", "show", "--all", "-o", "json").out)["options"]
    expected = [
        ".".join((*path, key))
        for path, command in all_commands(root)
        for key in configurable_options(command)
    ]
    assert [each["key"] for each in everything] == expected


def test_table_has_a_line_for_each_option(run: Run, write: Callable[[str], None]) -> None:
    write('[watch]\nlog-format = "json"\n[query]\nlimit = 7\n')
    lines = [line.split() for line in run("config", "show").lines]
    assert lines[0] == ["OPTION", "VALUE", "FROM"]
    assert ["watch.log-format", "json", "imagekeep.toml"] in lines
    assert ["query.limit", "7", "imagekeep.toml"] in lines
    assert ["serve.filter-images", "false", "default"] in lines
    assert ["serve.metrics", "-", "default"] in lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('sorce = "oci:x"', "unknown key 'sorce' (did you mean 'source'?)"),
        ('listen = "x"', "unknown key 'listen' (did you mean 'serve.listen'?)"),
        ('[serve]\nlisen = "x"', "unknown key 'serve.lisen' (did you mean 'serve.listen'?)"),
        ('[serve]\nstore = "x"', "unknown key 'serve.store' (did you mean 'store'?)"),
        ('[serv]\nlisten = "x"', "unknown key 'serv' (did you mean 'serve'?)"),
        ("[db.migrat]\ndry-run = true", "unknown key 'db.migrat' (did you mean 'db.migrate'?)"),
        ("zzz = 1", "unknown key 'zzz'"),
        ('"a\\u001b[1m" = 1', "unknown key 'a\\x1b[1m'"),
        ("source = 1", "'source' must be a string"),
        ("serve = 1", "'serve' must be a table: it is a command"),
        ("[image]\nls = 1", "'image.ls' must be a table: it is a command"),
        ("[serve]\nsocket-mode = 0o660", "'serve.socket-mode' must be a string"),
        ('[serve]\nfilter-images = "yes"', "'serve.filter-images' must be true or false"),
        ("[query]\nlimit = true", "'query.limit' must be an integer"),
        ('[query]\ntimeout = "1"', "'query.timeout' must be a number"),
        ('[serve]\nsocket-mode = "9"', "invalid value of 'serve.socket-mode': must be octal, such as 0660"),
        ("[query]\nlimit = 0", "invalid value of 'query.limit': 0 is not in the range x>=1."),
        ("source = ", "not valid TOML: Invalid value (at end of document)"),
        ("a = " + "[" * 5000, "not valid TOML: "),
        ("# " + "x" * BYTES_MAX, "larger than 1 MiB"),
    ],
)
def test_mistake_is_named(run: Run, write: Callable[[str], None], text: str, message: str) -> None:
    write(text)
    result = run("config", "show")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"Error: imagekeep.toml: {message}")


def test_mistake_is_found_when_its_command_runs(run: Run, write: Callable[[str], None]) -> None:
    write("[query]\nlimt = 1\n")
    assert run("images").code == 0
    result = run("query", "SELECT 1")
    assert result.code == 2
    assert result.err == "Error: imagekeep.toml: unknown key 'query.limt' (did you mean 'query.limit'?)\n"


def test_values_that_click_refuses_are_blamed_on_the_file_only_if_they_are_from_it(
    run: Run, write: Callable[[str], None]
) -> None:
    write("[query]\nlimit = 0\n")
    assert run("query", "SELECT 1").err.startswith("Error: imagekeep.toml: invalid value of 'query.limit': ")
    assert "'--limit': 0 is not in" in run("query", "--limit", "0", "SELECT 1").err


def test_text_that_is_not_utf8_is_refused(run: Run, directory: Path, write: Callable[[str], None]) -> None:
    write("")
    (directory / "imagekeep.toml").write_bytes(b'source = "\xff"')
    assert run("images").err == "Error: imagekeep.toml: not UTF-8\n"


def test_named_file_must_exist(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEKEEP_CONFIG", "none.toml")
    result = run("images")
    assert (result.code, result.err) == (
        125, "Error: cannot read configuration none.toml: No such file or directory\n",
    )  # fmt: skip


def test_help_needs_no_configuration(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEKEEP_CONFIG", "none.toml")
    assert (run("--help").code, run("--version").code) == (0, 0)


def test_system_file_is_read_if_there_is_one(
    run: Run, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEKEEP_CONFIG", "")
    path = directory / "system.toml"
    monkeypatch.setattr("imagekeep.cli.configuration.SYSTEM_CONFIGURATION", path)
    assert run("images").code == 0
    path.write_text('source = "oci:system"\n')
    assert shown(run)["source"] == ("oci:system", str(path))
    assert str(SYSTEM_CONFIGURATION) == "/etc/imagekeep/imagekeep.toml"


def test_device_is_an_empty_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEKEEP_CONFIG", os.devnull)
    assert shown(run)["source"] == (None, "default")


def test_file_that_everyone_may_write_is_refused(
    run: Run, directory: Path, write: Callable[[str], None]
) -> None:
    write("")
    (directory / "imagekeep.toml").chmod(0o666)
    result = run("images")
    assert (result.code, result.err) == (
        125, "Error: imagekeep.toml: everyone may write to it (chmod o-w imagekeep.toml)\n",
    )  # fmt: skip


def test_unreadable_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "imagekeep.toml"
    path.touch(0)
    monkeypatch.setenv("IMAGEKEEP_CONFIG", str(path))
    with without_privileges(), pytest.raises(PermissionDeniedError, match="IMAGEKEEP_CONFIG=/dev/null"):
        read_configuration()


@pytest.mark.parametrize(
    ("key", "value", "printed"),
    [
        ("x", "postgresql://me:pa@ss/w@host/db", f"postgresql://me:{HIDDEN}@host/db"),
        ("x", "postgresql://me@host/db?password=p&sslmode=require", f"postgresql://me@host/db?password={HIDDEN}&sslmode=require"),
        ("x", "host=h password = 'a \\' b' user=me", f"host=h password = {HIDDEN} user=me"),
        ("x", "host=h PASSWORD=p", f"host=h PASSWORD={HIDDEN}"),
        ("ship.token", "abc", HIDDEN),
        ("ship.token", "", ""),
        ("source", "containerd:/run/containerd/containerd.sock", "containerd:/run/containerd/containerd.sock"),
        ("x", "unix:///run/a:b@c", "unix:///run/a:b@c"),
    ],
)  # fmt: skip
def test_secrets_are_hidden(key: str, value: str, printed: str) -> None:
    assert hide_secrets(key, value) == printed


def test_secrets_of_the_file_are_hidden(run: Run, write: Callable[[str], None]) -> None:
    write('source = "containerd://me:hunter2@host"\n')
    result = run("config", "show")
    assert (result.code, "hunter2" in result.out) == (0, False)


@pytest.mark.parametrize(
    ("value", "expected"), [(["a"], None), ("a", None), ([1], "a string or an array of strings")]
)
def test_repeatable_option_is_an_array(value: object, expected: str | None) -> None:
    assert wrong_type(click.Option(["--label"], multiple=True), value) == expected


@pytest.mark.parametrize("text", ['platform = "linux/arm64"', 'platform = ["linux/arm64"]'])
def test_repeatable_option_is_one_value_or_several(run: Run, write: Callable[[str], None], text: str) -> None:
    write(text)
    assert shown(run)["platform"] == (["linux/arm64"], "imagekeep.toml")


def test_no_option_has_the_name_of_a_command() -> None:
    clashes = [
        path for path, command in all_commands(root)
        if configurable_options(command).keys() & getattr(command, "table", {}).keys()
    ]  # fmt: skip
    assert clashes == []


def test_completion_ignores_a_wrong_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "imagekeep.toml").write_text("zzz = 1\n")
    monkeypatch.setenv("IMAGEKEEP_CONFIG", "imagekeep.toml")
    words = "COMP_WORDS='imagekeep image inspect busybox:1.3' COMP_CWORD='busybox:1.3'"
    shown = run_line(f"{words} _IMAGEKEEP_COMPLETE=fish_complete imagekeep", directory)
    assert "plain,busybox:1.36" in shown

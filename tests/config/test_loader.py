"""Files to instances: names, defaults, paths, sinks, folders."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from config.parts import SECRET, Console, File, FileConfig, Probe, ProbeConfig, lines, read, registry, write
from vedette.config import load
from vedette.plugins import Group


def test_an_instance(tmp_path: Path) -> None:
    text = (
        "defaults:\n  interval: 5s\n  tags: [a, b]\n  metrics: {include: [x.*], rename: {a: b}}\n"
        "instances:\n  - name: first\n    port: 81\n"
        "  - tags: [c]\n    metrics: {include: [y.*]}\n    schedule: '5 * * * *'\n"
    )
    configuration = read(tmp_path, text)
    assert lines(configuration) == []
    assert not configuration.fatal
    first, second = configuration.instances
    assert (first.id, first.check, first.plugin, first.line) == ("probe/first", "probe", Probe, 6)
    assert first.file == f"{tmp_path}/probe.yaml"
    assert isinstance(first.config, ProbeConfig)
    assert (first.config.name, first.config.port, first.config.interval) == ("first", 81, 5.0)
    assert first.config.tags == ("a", "b")
    assert first.content == {
        "name": "first",
        "port": 81,
        "interval": "5s",
        "tags": ["a", "b"],
        "metrics": {"include": ["x.*"], "rename": {"a": "b"}},
    }
    assert second.id == "probe/probe-2"
    assert second.config.tags == ("c",)
    assert second.config.metrics.include == ("y.*",)
    assert second.config.metrics.rename == {"a": "b"}
    assert second.config.schedule == "5 * * * *"  # and the default interval is out of the way


def test_names_folders_and_check_override(tmp_path: Path) -> None:
    files = {
        "probe.yaml": "instances: [{}, {name: x}, {}]\n",
        "payments.yml": "check: probe\ninstances: [{}, {}]\n",
        "probe.d/agent.yaml": "instances: [{}]\n",
        "counter.d/one.yaml": "instances: [{}]\n",
        "notes.txt": "instances: 5\n",
        "probe.yaml.example": "nonsense: [\n",
        ".hidden.yaml": "nonsense: [\n",
        ".hidden.d/probe.yaml": "nonsense: [\n",
    }
    configuration = read(tmp_path, files)
    assert lines(configuration) == []
    assert [instance.id for instance in configuration.instances] == [
        "counter/one",
        "probe/payments",
        "probe/payments-2",
        "probe/agent",
        "probe/probe",
        "probe/x",
        "probe/probe-3",
    ]


def test_a_check_that_keeps_state_wants_names(tmp_path: Path) -> None:
    configuration = read(tmp_path, {"counter.yaml": "instances:\n  - {}\n  - name: b\n  - interval: 5s\n"})
    assert lines(configuration) == [
        f"counter.yaml:{line}: instances[{i}]: needs a `name:`, since this check keeps state for each instance"
        for i, line in ((0, 2), (2, 4))
    ]
    assert [instance.id for instance in configuration.instances] == ["counter/b"]


def test_the_same_name_in_two_checks_is_fine(tmp_path: Path) -> None:
    files = {"probe.yaml": "instances: [{name: a}]\n", "counter.yaml": "instances: [{name: a}]\n"}
    assert [i.id for i in read(tmp_path, files).instances] == ["counter/a", "probe/a"]


def test_kubernetes_volume(tmp_path: Path) -> None:
    """A ConfigMap is mounted as links through a hidden `..data`."""
    real = write(tmp_path / "..2024_05_01", {"probe.yaml": "instances: [{}]\n"})
    (tmp_path / "..data").symlink_to(real.name)
    (tmp_path / "probe.yaml").symlink_to("..data/probe.yaml")
    configuration = load(tmp_path, registry())
    assert lines(configuration) == []
    assert [instance.id for instance in configuration.instances] == ["probe/probe"]


def test_one_bad_instance_does_not_hurt_the_others(tmp_path: Path) -> None:
    files = {"probe.yaml": "instances: [{port: x}, {name: good}]\n", "counter.yaml": "instances: [\n"}
    configuration = read(tmp_path, files)
    assert [instance.id for instance in configuration.instances] == ["probe/good"]
    assert len(configuration.problems) == 2
    assert not configuration.fatal


@pytest.mark.parametrize(
    "text",
    [
        "defualts: {tls: true}\ninstances: [{}]\n",
        "defaults: [tls]\ninstances: [{}]\n",
        "defaults: {tls: true, tls: false}\ninstances: [{}]\n",
        "instances: [{}]\ninstances: [{}]\n",
        "instances: [{}]\n---\ninstances: [{}]\n",
    ],
)
def test_a_mistake_outside_the_instances_keeps_all_of_them_out(tmp_path: Path, text: str) -> None:
    configuration = read(tmp_path, text)
    assert configuration.problems
    assert configuration.instances == ()


def test_an_anchored_mistake_keeps_out_whoever_uses_it(tmp_path: Path) -> None:
    text = "instances:\n  - {name: a, headers: &h {x: !t y}}\n  - {name: b, headers: *h}\n  - {name: c}\n"
    assert [i.id for i in read(tmp_path, text).instances] == ["probe/c"]


def test_twins_cite_both_places(tmp_path: Path) -> None:
    files = {
        "a.yaml": "check: probe\ninstances:\n  - name: x\n  - port: 1\n    name: x\n",
        "b.yaml": "check: probe\ninstances:\n  - port: y\n    name: x\n",
    }
    configuration = read(tmp_path, files)
    assert [line.replace(f"{tmp_path}/", "") for line in lines(configuration)] == [
        "a.yaml:5: instances[1].name: the same name as instances[0] on line 3",
        "b.yaml:3: instances[0].port: must be a whole number",
        "b.yaml:4: instances[0].name: the same name as the instance at a.yaml:3",
    ]
    assert [(i.id, i.line) for i in configuration.instances] == [("probe/x", 3)]


def test_plugins_that_do_not_load(tmp_path: Path) -> None:
    files = {
        "crashing.yaml": "instances: [{}]\n",
        "driverless.yaml": "instances: [{}]\n",
        "probbe.yaml": f"instances: [{{password: {SECRET}}}]\n",
        "x.yaml": "check: 5\ninstances: [{}]\n",
    }
    assert lines(read(tmp_path, files)) == [
        "crashing.yaml: crashing: thirdparty.crashing cannot be imported: RuntimeError: no good",
        "driverless.yaml: driverless (of thirdparty.driverless) needs redis, which is not installed: "
        "pip install 'vedette[redis]'",
        "probbe.yaml: the file's name is no known check; did you mean 'probe'?",
        "x.yaml:1: check: must be the name of a check",
    ]


def test_lint_and_declare(tmp_path: Path) -> None:
    text = "instances:\n  - lint: mind the gap\n  - lint: raise\n  - declare: raise\n"
    configuration = read(tmp_path, {"grumble.yaml": text})
    assert lines(configuration) == [
        "grumble.yaml:2: instances[0]: warning: mind the gap",
        "grumble.yaml:3: instances[1]: warning: the check's own `lint` failed (RuntimeError)",
        "grumble.yaml:4: instances[2]: the check's own `declare` failed (RuntimeError)",
    ]
    assert [i.id for i in configuration.instances] == ["grumble/grumble", "grumble/grumble-2"]


def test_what_examine_finds_has_its_line_and_only_a_thorough_load_asks(tmp_path: Path) -> None:
    text = """\
defaults:
  examine: closely
instances:
  - rules:
      - key: good
      - key: bad
  - rules:
      - {key: bare}
    name: second
  - examine: raise
    name: third
"""
    configuration = read(tmp_path, {"grumble.yaml": text}, thorough=True)
    assert lines(configuration) == [
        "grumble.yaml:2: defaults.examine: warning: is odd; look again",
        "grumble.yaml:6: instances[0].rules[1].key: never works",
        "grumble.yaml:8: instances[1].rules[0].read: warning: reads nothing",
        "grumble.yaml:10: instances[2]: warning: the check's own `examine` failed (RuntimeError)",
    ]
    assert [i.id for i in configuration.instances] == ["grumble/second", "grumble/third"]
    assert lines(read(tmp_path, {"grumble.yaml": text})) == []


def test_relative_paths_start_from_the_yaml_file(tmp_path: Path) -> None:
    text = (
        "instances:\n  - ca_file: ca.pem\n    files: [a, /b, ../c]\n    rules: [{key: k, file: r}]\n    host: ca.pem\n"
    )
    [instance] = read(tmp_path, {"probe.d/x.yaml": text}).instances
    base = tmp_path / "probe.d"
    options = instance.config
    assert isinstance(options, ProbeConfig)
    assert options.ca_file == base / "ca.pem"
    assert options.files == (base / "a", Path("/b"), tmp_path / "c")
    assert options.rules[0].file == base / "r"
    assert options.host == "ca.pem"
    assert options.model_fields_set == {"name", "ca_file", "files", "rules", "host"}


def test_relative_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "conf.d", {"probe.yaml": "instances: [{ca_file: x, prot: 1}, {ca_file: x}]\n"})
    monkeypatch.chdir(tmp_path)
    configuration = load(Path("./conf.d"), registry(), environ={})
    assert [str(p) for p in configuration.problems] == [
        "conf.d/probe.yaml:1: instances[0].prot: unknown option; did you mean 'port'?"
    ]
    [instance] = configuration.instances
    assert isinstance(instance.config, ProbeConfig)
    assert instance.config.ca_file == tmp_path / "conf.d" / "x"
    assert instance.file == "conf.d/probe.yaml"


def test_agent_and_sinks(tmp_path: Path) -> None:
    agent = (
        "hostname: node-7\ntags: [team:a]\nlog: {level: debug}\nstate_directory: state\nstop_timeout: 3s\n"
        "sinks:\n  - type: file\n    path: samples.jsonl\n  - {type: console}\n  - {type: file, path: /x}\n"
        "  - {type: file, name: third, path: y}\n"
    )
    configuration = read(tmp_path, {"agent.yaml": agent, "probe.yaml": "instances: [{}]\n"})
    assert lines(configuration) == []
    assert configuration.agent.hostname == "node-7"
    assert configuration.agent.tags == ("team:a",)
    assert configuration.agent.log.level == "debug"
    assert configuration.agent.stop_timeout == 3.0
    assert configuration.agent.state_directory == str(tmp_path / "state")
    assert [(cls, config.name) for cls, config in configuration.sinks] == [
        (File, "file"),
        (Console, "console"),
        (File, "file-2"),
        (File, "third"),
    ]
    assert [config.path for _, config in configuration.sinks if isinstance(config, FileConfig)] == [
        tmp_path / "samples.jsonl",
        Path("/x"),
        tmp_path / "y",
    ]


@pytest.mark.parametrize("agent", [None, "", "# all commented out\n", "hostname: x\n", "sinks:\n"])
def test_a_console_by_default(tmp_path: Path, agent: str | None) -> None:
    files = {"probe.yaml": "instances: [{}]\n"} | ({} if agent is None else {"agent.yaml": agent})
    configuration = read(tmp_path, files)
    assert lines(configuration) == []
    assert [(cls, config.name) for cls, config in configuration.sinks] == [(Console, "console")]


def test_no_sinks_is_possible(tmp_path: Path) -> None:
    configuration = read(tmp_path, {"agent.yaml": "sinks: []\n", "probe.yaml": "instances: [{}]\n"})
    assert (configuration.sinks, configuration.problems) == ((), ())


def test_sink_problems_are_fatal(tmp_path: Path) -> None:
    agent = "sinks:\n  - type: file\n    path: 5\n    tokn: x\n  - type: fil\n"
    configuration = read(tmp_path, {"agent.yaml": agent, "probe.yaml": "instances: [{}]\n"})
    assert lines(configuration) == [
        "agent.yaml:3: sinks[0].path: must be a path",
        "agent.yaml:4: sinks[0].tokn: unknown option; did you mean 'token'?",
        "agent.yaml:5: sinks[1].type: unknown sink; did you mean 'file'?",
    ]
    assert configuration.fatal


def test_a_broken_agent_file_of_any_kind_is_fatal(tmp_path: Path) -> None:
    write(tmp_path, {"probe.yaml": "instances: [{}]\n"})
    (tmp_path / "agent.yaml").symlink_to("nowhere")
    assert load(tmp_path, registry()).fatal
    (tmp_path / "agent.yaml").unlink()
    (tmp_path / "agent.yml").mkdir()
    assert load(tmp_path, registry()).fatal
    (tmp_path / "agent.yml").rmdir()
    assert not load(tmp_path, registry()).fatal


def test_only_one_check(tmp_path: Path) -> None:
    files = {
        "agent.yaml": "sinks: [{type: nonsense}]\n",
        "probe.yaml": "instances: [{}]\n",
        "more.yaml": "check: probe\ninstances: [{}]\n",
        "probe.d/third.yaml": "instances: [{}]\n",
        "counter.yaml": "instances: [{name: '${env:UNSET}'}]\n",
        "broken.yaml": "\tprobe\n",
        "crashing.yaml": "instances: [{}] # not a probe\n",
    }
    configuration = read(tmp_path, files, only="probe", sinks=False)
    assert lines(configuration) == []
    assert configuration.sinks == ()
    assert [i.id for i in configuration.instances] == ["probe/more", "probe/third", "probe/probe"]
    broken = read(tmp_path, {"probe.yaml": "\tx\n"}, only="probe", sinks=False)
    assert lines(broken) == ["probe.yaml:1: a tab where only spaces may stand; indent with spaces"]


def test_a_one_shot_run_imports_no_other_plugin(tmp_path: Path) -> None:
    asked: list[str] = []

    class Watching(type(registry())):  # type: ignore[misc]
        def load(self, group: Group, name: str) -> object:
            asked.append(f"{group}/{name}")
            return super().load(group, name)

    watching = Watching(registry()._find)
    write(tmp_path, {"probe.yaml": "instances: [{}]\n", "counter.yaml": "instances: [{}]\n"})
    load(tmp_path, watching, only="counter", sinks=False)
    assert asked == ["checks/counter"]


def test_directory_problems(tmp_path: Path) -> None:
    hint = "--conf DIR names the folder with the YAML files"
    missing = load(tmp_path / "none", registry())
    assert missing.fatal
    assert [str(p) for p in missing.problems] == [f"{tmp_path}/none: this folder does not exist; {hint}"]
    (tmp_path / "file").touch()
    file = load(tmp_path / "file", registry())
    assert file.fatal
    assert [str(p) for p in file.problems] == [f"{tmp_path}/file: is not a folder; {hint}"]
    assert load(Path("\0"), registry()).fatal


def test_empty_directory_is_a_warning(tmp_path: Path) -> None:
    configuration = load(tmp_path, registry())
    assert [p.severity for p in configuration.problems] == ["warning"]
    assert not configuration.fatal


def test_things_that_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").mkdir()
    os.mkfifo(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").symlink_to("c.yaml")
    (tmp_path / "d.yaml").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the path of a unix socket is at most 107 bytes long
        server.bind("e.yaml")
        configuration = load(tmp_path, registry())
    assert lines(configuration) == [
        "a.yaml: is a folder, not a file; a folder of files for one check is named like redis.d",
        "b.yaml: is not a regular file",
        "c.yaml: cannot be read: Too many levels of symbolic links",
        "d.yaml: is a symbolic link to nothing",
        "e.yaml: is not a regular file",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml": "", "b.d/x.yaml": ""})
    (tmp_path / "a.yaml").chmod(0)
    (tmp_path / "b.d").chmod(0)
    try:
        assert lines(load(tmp_path, registry())) == [
            "a.yaml: cannot be read: Permission denied",
            "b.d: cannot be read: Permission denied",
        ]
    finally:
        (tmp_path / "b.d").chmod(0o700)


def test_problems_are_sorted_over_all_files(tmp_path: Path) -> None:
    files = {
        "b.yaml": "check: probe\ninstances:\n  - z: 1\n    y: 2\n  - x: 3\n",
        "a.yaml": "check: probe\ninstances:\n  - port: x\nextra: 1\n",
        "agent.yaml": "x: 1\n",
    }
    places = [(Path(p.file).name, p.line) for p in read(tmp_path, files).problems]
    assert places == [("a.yaml", 3), ("a.yaml", 4), ("agent.yaml", 1), ("b.yaml", 3), ("b.yaml", 4), ("b.yaml", 5)]


def test_content_tells_what_changed(tmp_path: Path) -> None:
    text = "instances: [{name: a, password: '${env:PW}'}, {name: b}]\n"
    first = read(tmp_path, text, environ={"PW": "one"}).instances
    again = read(tmp_path, f"# moved down\n{text}", environ={"PW": "one"}).instances
    rotated = read(tmp_path, text, environ={"PW": "two"}).instances
    assert [i.content for i in first] == [i.content for i in again]
    assert first[0].content != rotated[0].content
    assert first[1].content == rotated[1].content


def test_file_names_that_no_terminal_shows(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9\x1b.yaml")
    write(tmp_path, {odd: "check: probe\ninstances: [{}, {name: b}, {prot: 1}]\n", "\n.yaml": "- 1\n"})
    configuration = load(tmp_path, registry())
    assert sorted(lines(configuration)) == [
        "?.yaml:1: must be a mapping with `instances:`",
        "caf??.yaml:2: instances[0]: needs a `name:`, since the file's own has characters that cannot be shown",
        "caf??.yaml:2: instances[2]: needs a `name:`, since the file's own has characters that cannot be shown",
    ]
    assert [i.id for i in configuration.instances] == ["probe/b"]

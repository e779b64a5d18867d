"""What differs between two configurations, and what of the old one stays in force."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vedette.config import Configuration, load
from vedette.config.changes import Change, compare, in_force
from vedette.plugins import Registry
from vedette.secrets import Masker

FIRST = {
    "agent.yaml": "tags: [team:pay]\nsinks: [{type: file, path: a.jsonl}, {type: console}]\n",
    "redis.yaml": """\
instances:
  - {name: cache, host: db1, interval: 30s, password: hunter2-one}
  - {name: queue, host: db2, tags: [a:b]}
""",
    "host.yaml": "instances: [{}]\n",
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    write(folder, **FIRST)
    return folder


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def read(conf: Path, masker: Masker | None = None) -> Configuration:
    return load(conf, Registry(), environ={}, masker=masker)


def ids(configuration: Configuration) -> list[str]:
    return [instance.id for instance in configuration.instances]


def edit(conf: Path, name: str, old: str, new: str) -> None:
    text = (conf / name).read_text()
    assert old in text
    (conf / name).write_text(text.replace(old, new))


def test_the_same_files_change_nothing(conf: Path) -> None:
    old = read(conf)
    changes = compare(old, read(conf, old.masker))
    assert not changes
    assert str(changes) == "+0 ~0 -0 =3"


def test_an_instance_is_its_content_not_its_place(conf: Path) -> None:
    old = read(conf)
    text = (conf / "redis.yaml").read_text()
    write(conf, **{"redis.yaml": f"# moved\n\n{text}"})
    assert not compare(old, read(conf))


@pytest.mark.parametrize(
    ("old", "new", "what", "same_series"),
    [
        ("interval: 30s", "interval: 15s", "interval 30s → 15s", True),
        ("interval: 30s, ", "", "interval 30s → default", True),
        ("interval: 30s", "interval: 30s, timeout: 4s", "timeout default → 4s", True),
        ("host: db1", "host: db3", "host db1 → db3", False),
        ("hunter2-one", "hunter2-two", "password", False),
        ("interval: 30s", "interval: 30s, round_trip: false", "round_trip default → false", False),
        ("interval: 30s", "interval: 30s, tags: [x:y]", "tags", False),
        ("interval: 30s", "interval: 30s, metrics: {exclude: ['*']}", "metrics", False),
    ],
)
def test_what_changed_is_said_without_secrets(conf: Path, old: str, new: str, what: str, same_series: bool) -> None:
    before = read(conf)
    edit(conf, "redis.yaml", old, new)
    changes = compare(before, read(conf, before.masker))
    assert [(one.name, "; ".join(one.what), one.same_series) for one in changes.changed] == [
        ("redis/cache", what, same_series)
    ]
    assert str(changes) == f"+0 ~1 ({what}) -0 =2"
    assert "hunter2" not in str(changes)


def test_added_removed_and_renamed_instances(conf: Path) -> None:
    before = read(conf)
    edit(conf, "redis.yaml", "name: queue", "name: jobs")
    write(conf, **{"extra.yaml": "check: host\ninstances: [{name: second}]\n"})
    (conf / "host.yaml").unlink()
    changes = compare(before, read(conf))
    assert (changes.added, changes.removed, changes.same) == (
        ("host/second", "redis/jobs"),
        ("host/host", "redis/queue"),
        1,
    )


def test_sinks_and_options_of_the_agent(conf: Path) -> None:
    before = read(conf)
    write(
        conf,
        **{
            "agent.yaml": "tags: [team:x]\nhostname: n7\nsinks: [{type: file, path: b.jsonl},"
            " {type: prometheus, listen: '127.0.0.1:0'}]\n"
        },
    )
    assert compare(before, read(conf)).agent == (
        Change("agent.yaml", ("hostname", "tags")),
        Change("sink file", ("changed",)),
        Change("sink console", ("removed",)),
        Change("sink prometheus", ("added",)),
    )


BROKEN: list[tuple[str, str, Any]] = [
    ("yaml", "redis.yaml", "instances:\n  - {name: cache\n"),
    ("empty", "redis.yaml", ""),
    ("one instance", "redis.yaml", "instances:\n  - {name: cache, host: db9}\n  - {name: queue, prot: 1}\n"),
    ("check", "redis.yaml", "check: rediss\ninstances: [{}]\n"),
    ("secret", "redis.yaml", "instances:\n  - {name: cache, password: '${file:nowhere}'}\n"),
    ("link", "redis.yaml", None),
]


@pytest.mark.parametrize(("file", "text"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_file_with_an_error_keeps_its_last_good_instances(conf: Path, file: str, text: str | None) -> None:
    before = read(conf)
    if text is None:
        (conf / file).unlink()
        (conf / file).symlink_to("nowhere")
    else:
        write(conf, **{file: text})
    edit(conf, "host.yaml", "{}", "{interval: 20s}")
    after = in_force(before, read(conf))
    assert ids(after) == ["host/host", "redis/cache", "redis/queue"]
    assert str(compare(before, after)) == "+0 ~1 (interval default → 20s) -0 =2"
    said = [str(problem) for problem in after.problems]
    assert any(f"conf.d/{file}" in line and "warning" not in line for line in said)
    note = f"{(conf / file).as_posix()}: warning: goes on as it was before the error: redis/cache, redis/queue"
    assert note in said
    (conf / file).unlink()
    write(conf, **{file: FIRST[file]})
    mended = in_force(after, read(conf))
    assert mended.problems == ()
    assert [one.id for one in mended.instances if one.check == "redis"] == ["redis/cache", "redis/queue"]


def test_a_broken_agent_file_keeps_options_and_sinks_and_lets_the_rest_change(conf: Path) -> None:
    before = read(conf)
    write(conf, **{"agent.yaml": "tags: [a:b]\nsinks: [{type: nosuch}]\n"})
    (conf / "host.yaml").unlink()
    after = in_force(before, read(conf))
    assert (after.agent, after.sinks, after.fatal) == (before.agent, before.sinks, False)
    assert ids(after) == ["redis/cache", "redis/queue"]


def test_an_instance_that_moved_while_its_old_file_is_broken_follows_the_good_file(conf: Path) -> None:
    before = read(conf)
    write(conf, **{"redis.yaml": "instances: [", "more.yaml": "check: redis\ninstances: [{name: cache, host: db7}]\n"})
    after = in_force(before, read(conf))
    assert sorted(ids(after)) == ["host/host", "redis/cache", "redis/queue"]
    assert {one.id: one.file for one in after.instances}["redis/cache"] == (conf / "more.yaml").as_posix()


def test_a_new_file_with_an_error_gives_its_good_instances_as_at_a_start(conf: Path) -> None:
    before = read(conf)
    write(conf, **{"second.yaml": "check: redis\ninstances:\n  - {name: good}\n  - {name: bad, prot: 1}\n"})
    assert "redis/good" in ids(in_force(before, read(conf)))


def test_a_folder_that_is_gone_changes_nothing(conf: Path) -> None:
    before = read(conf)
    conf.rename(conf.with_name("elsewhere"))
    after = in_force(before, read(conf))
    assert (after.instances, after.sinks, after.fatal) == (before.instances, before.sinks, False)
    assert [str(problem) for problem in after.problems] == [
        f"{conf.as_posix()}: this folder does not exist; --conf DIR names the folder with the YAML files"
    ]


@pytest.mark.skipif(os.getuid() == 0, reason="root may list every folder")
def test_a_subfolder_that_cannot_be_listed_changes_nothing(conf: Path) -> None:
    (conf / "redis.d").mkdir()
    (conf / "redis.yaml").rename(conf / "redis.d" / "shop.yaml")
    before = read(conf)
    (conf / "redis.d").chmod(0)
    try:
        assert not compare(before, in_force(before, read(conf)))
    finally:
        (conf / "redis.d").chmod(0o755)


def test_the_files_that_secrets_came_from_are_known(conf: Path, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("s3cret-17\n")
    edit(conf, "redis.yaml", "password: hunter2-one", "password: '${file:../pw}'")
    before = read(conf)
    assert {file.resolve() for file in before.secret_files} == {tmp_path / "pw"}
    (tmp_path / "pw").write_text("s3cret-18\n")
    changes = compare(before, read(conf, before.masker))
    assert str(changes) == "+0 ~1 (password) -0 =2"
    assert before.masker("s3cret-17 s3cret-18") == "**** ****"

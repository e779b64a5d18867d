"""Plugins of others that are wrong in one way or another: each is named with the reason, and nothing else suffers."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from config.parts import write
from vedette.cli import show
from vedette.config import load
from vedette.errors import PluginError
from vedette.plugins import Registry

GOOD = """
from vedette import Check, CheckConfig, hookimpl
class C(Check[CheckConfig]):
    "What it does."
    name = "{name}"
    async def run(self, emit): ...
@hookimpl
def register_checks(register): register(C)
"""
NO_CLASS = "from vedette import hookimpl\n@hookimpl\ndef register_checks(register): register(42)\n"
NO_CHECK = NO_CLASS.replace("@hook", "class C:\n    name = 'plain'\n@hook").replace("42", "C")
WRONG = {
    "exits": ("import sys\nsys.exit('bye')\n", "p_exits cannot be imported: SystemExit: bye"),
    "base": ("class B(BaseException): pass\nraise B('x')\n", "p_base cannot be imported: B: x"),
    "hook": (NO_CLASS.replace("register(42)", "exit(3)"), "p_hook: SystemExit: 3"),
    "int": (NO_CLASS, "p_int registered int and no class"),
    "plain": (NO_CHECK, "p_plain registered 'C', which is no subclass of vedette.Check or vedette.Listener"),
    "huge": (
        "__vedette_api__ = '9' * 5000 + '.0'\n",
        f'p_huge has __vedette_api__ = \'{"9" * 39}; it is a text such as "1.0"',
    ),
    "half": ("import p_half.more\n", "p_half cannot be imported: ModuleNotFoundError: No module named 'p_half.more'"),
}


def install_by_hand(site: Path, name: str, text: str, *, owner: str = "", module: str = "") -> None:
    """What pip would leave behind of a package with one check, `vp-NAME` if it is not named."""
    site.mkdir(parents=True, exist_ok=True)
    (site / f"p_{name}.py").write_text(text)
    owner = owner or f"vp-{name}"
    info = site / f"{owner.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {owner}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vedette.checks]\n{name} = {module or 'p_' + name}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where Python looks for packages; what is imported from it is forgotten."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    for name in [*WRONG, "kept", "twice", "redis", "no"]:
        monkeypatch.setitem(sys.modules, f"p_{name}", None)
        monkeypatch.delitem(sys.modules, f"p_{name}")
    return folder


def test_whatever_a_module_does_is_an_error_with_its_name(site: Path) -> None:
    for name, (text, _) in WRONG.items():
        install_by_hand(site, name, text)
    install_by_hand(site, "no", "", module="this is no module!")
    registry = Registry()
    for name, (_, says) in WRONG.items():
        with pytest.raises(PluginError) as refused:
            registry.load("checks", name)
        assert str(refused.value).removeprefix(f"{name}: ").partition("; 'p_half' is")[0] == says
    with pytest.raises(PluginError, match=r"^no \(of vp-no\): 'this is no module!' is not the name of a module$"):
        registry.load("checks", "no")


def test_only_in_the_main_thread_is_a_keyboard_interrupt_one(site: Path) -> None:
    install_by_hand(site, "kept", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        Registry().load("checks", "kept")
    said: list[str] = []

    def work() -> None:
        with pytest.raises(PluginError) as refused:
            Registry().load("checks", "kept")
        said.append(str(refused.value))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == ["kept: p_kept cannot be imported: KeyboardInterrupt: "]


def test_vedettes_own_is_the_one_and_of_others_none(site: Path, tmp_path: Path) -> None:
    install_by_hand(site, "redis", GOOD.format(name="redis"), owner="vp-evil-redis")
    install_by_hand(site, "twice", GOOD.format(name="twice"), owner="aaa-one")
    install_by_hand(site, "twice", GOOD.format(name="twice"), owner="zzz-two")
    files = {"conf.d/redis.yaml": "instances: [{}]\n", "conf.d/twice.yaml": "instances: [{}]\n"}
    write(tmp_path, files)
    configuration = load(tmp_path / "conf.d", Registry(), environ={}, sinks=False)
    assert [one.plugin.__module__ for one in configuration.instances] == ["vedette_checks.redis.check"]
    both = "twice: aaa-one and zzz-two each have one of this name: pip uninstall all but one"
    other = "'redis' is vedette's own; the one of vp-evil-redis needs another name"
    assert [f"{one.severity} {one.message}" for one in configuration.problems] == [f"warning {other}", f"error {both}"]


def test_the_table_has_them_all_and_nothing_of_what_they_print(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_by_hand(site, "exits", WRONG["exits"][0])
    install_by_hand(site, "kept", f"print('HELLO')\n{GOOD.format(name='kept')}")
    install_by_hand(site, "twice", GOOD.format(name="twice"), owner="aaa-one")
    install_by_hand(site, "twice", GOOD.format(name="twice"), owner="zzz-two")
    install_by_hand(site, "redis", GOOD.format(name="redis"), owner="vp-evil-redis")
    few = {"console", "exits", "kept", "redis", "twice"}  # the others cost seconds
    find = lambda group: [point for point in entry_points(group=group) if point.name in few]  # noqa: E731
    monkeypatch.setattr(show, "Registry", lambda: Registry(find))
    monkeypatch.setenv("COLUMNS", "200")
    assert show.plugins(Namespace()) == 0
    out, err = capsys.readouterr()
    assert err == "HELLO\n"
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "check exits vp-exits 1.0 exits: p_exits cannot be imported: SystemExit: bye" in rows
    assert "check kept vp-kept 1.0 What it does." in rows
    assert any(row.startswith("sink console vedette ") for row in rows)
    assert [row.partition(" each")[0] for row in rows if "check twice" in row] == [
        "check twice aaa-one 1.0 twice: aaa-one and zzz-two",
        "check twice zzz-two 1.0 twice: aaa-one and zzz-two",
    ]
    (evil,) = [row for row in rows if "vp-evil-redis 1.0" in row]
    assert evil.endswith("'redis' is vedette's own; the one of vp-evil-redis needs another name")
    assert any(row.startswith("check redis vedette ") for row in rows)

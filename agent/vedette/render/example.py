"""Floor 2: a complete, commented and valid example file for a plugin."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from vedette.render.options import Option, family, plugin_options, walk
from vedette.render.yamltext import block, flow

if TYPE_CHECKING:
    from vedette.render.options import Plugin

_WIDTH = 100
_COLUMN = 34
_FILES = {"sink": "agent.yaml", "discovery": "agent.yaml", "engine": "agent.yaml", "notifier": "agent.yaml"}
_HEADS = {"check": "name", "engine": "backend"}


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which options of an example can stand together.

    Attributes:
        active: names that the file sets; the others are commented out.
        apart: names that cannot be set beside the rest, such as `schedule` beside `interval`.
        data: all options but those of `apart`, valid together.
    """

    active: frozenset[str]
    apart: frozenset[str]
    data: dict[str, Any]


def example_yaml(plugin: Plugin) -> str:
    """An example file for a check (or what agent.yaml has of a sink, an engine and so on) that is valid as it stands.

    Required options are set to their examples. The others are commented out; the file is also valid with every `# `
    taken away. A line with `##` is text, and so is an option that cannot be set beside those before it.
    """
    options = _shown(plugin)
    choice = _choose(plugin, options)
    own = [line for option in options if not option.common for line in _described(option, choice)]
    common = [line for option in options if option.common for line in _compact(option, choice)]
    body = [*own, "", f"## Options of every {family(plugin)}:", *common]
    mark, indent = ("  - ", "    ") if family(plugin) != "engine" else ("  ", "  ")
    head = [f"{mark}{key}: {flow(value)}" for key, value in _head(plugin).items()]
    lines = [*_title(plugin), *head, *(f"{indent}{line}".rstrip() for line in body)]
    return "\n".join(lines) + "\n"


def example_config(plugin: Plugin) -> Any:
    """The options of the example file, all but those that exclude others, as the plugin's validated model.

    Raises:
        ValueError: the model's examples are not valid.
    """
    options = _shown(plugin)
    return plugin.config_class.model_validate(_choose(plugin, options).data)


def _shown(plugin: Plugin) -> list[Option]:
    """All options but the one that begins an entry, and those that go away."""
    return [one for one in plugin_options(plugin) if one.name not in _head(plugin) and not one.leaving]


def summary(plugin: Plugin) -> str:
    """The first paragraph of the plugin's docstring, on one line."""
    text = inspect.cleandoc(plugin.__doc__ or "").partition("\n\n")[0]
    return " ".join(text.split())


def _title(plugin: Plugin) -> list[str]:
    text = textwrap.wrap(f"{plugin.name}: {summary(plugin)}" if summary(plugin) else plugin.name, _WIDTH)
    how = 'A line that begins with ## is text. Take away "# " to set an option; what is shown is its default, or an '
    how = f"{how}example where there is none."
    if family(plugin) == "check":
        where = f"Copy this file to conf.d/{plugin.name}.yaml. `defaults:` beside `instances:` sets options for all."
    elif family(plugin) == "engine":
        where = f"`{_key(plugin)}:` in {_FILES[family(plugin)]}."
    else:
        where = f"One entry of `{_key(plugin)}:` in {_FILES[family(plugin)]}."
    lines = [f"## {line}" for line in [*text, *textwrap.wrap(f"{where} {how}", _WIDTH)]]
    if family(plugin) != "check":
        return [*lines, "", f"{_key(plugin)}:"]
    check = [f"## Needed where the file is not called {plugin.name}.yaml.", f"# check: {flow(plugin.name)}"]
    return [*lines, "", *check, "", "instances:"]


def _key(plugin: Plugin) -> str:
    """The key under which the plugin is configured."""
    return {"discovery": "autodiscovery", "engine": "fleet"}.get(family(plugin), f"{family(plugin)}s")


def _head(plugin: Plugin) -> dict[str, str]:
    """The option that begins an entry of `instances:` or `sinks:`, and stands first under `fleet:`."""
    return {_HEADS.get(family(plugin), "type"): plugin.name}


def _choose(plugin: Plugin, options: list[Option]) -> _Choice:
    """Find out, by asking the model, which options can be set together."""
    active = {option.name for option in options if option.required}
    data: dict[str, Any] = {**_head(plugin), **{option.name: option.shown for option in options if option.required}}
    complete = _valid(plugin, data)
    optional = [option for option in options if not option.required]
    wished = tuple(option for option in optional if option.name in getattr(plugin.config_class, "example", ()))
    # singly twice: an option may need one that comes after it
    groups = [*([wished] if wished else []), *((option,) for option in optional), *((option,) for option in optional)]
    for group in [*groups, *combinations(optional, 2)]:  # and two may need each other
        trial = {**data, **{option.name: option.shown for option in group}}
        if len(trial) != len(data) + len(group) or not _valid(plugin, trial):
            continue
        data = trial
        if not complete:  # one of several must be set, and this is the first
            active |= {option.name for option in group}
            complete = True
    return _Choice(frozenset(active), frozenset(option.name for option in optional if option.name not in data), data)


def _valid(plugin: Plugin, data: dict[str, Any]) -> bool:
    try:
        plugin.config_class.model_validate(data)
    except ValueError:
        return False
    return True


def _described(option: Option, choice: _Choice) -> list[str]:
    apart = " Does not go with all the options above as they stand." if option.name in choice.apart else ""
    lines = ["", *_text(f"{_sentence(option)}{apart}")]
    for inner in walk(option):
        path = inner.path.removeprefix(option.path)
        lines += _text(f"{path.removeprefix('[]').lstrip('.')}: {_sentence(inner)}", indent="  ")
    return [*lines, *_lines(option, choice)]


def _compact(option: Option, choice: _Choice) -> list[str]:
    lines = _lines(option, choice)
    if option.name in choice.apart:
        lines[0] = f"## or: {lines[0].removeprefix('## ')}"
    meaning = " ".join(option.meaning.split())
    if option.default and option.default != flow(option.shown):
        meaning = f"{meaning} Default: {option.default}."
    if len(lines) > 1 or len(lines[0]) > _COLUMN * 1.5:
        return [*_text(meaning), *lines]
    return [f"{lines[0]:<{_COLUMN}} # {meaning}"]


def _lines(option: Option, choice: _Choice) -> list[str]:
    mark = "## " if option.name in choice.apart else "" if option.name in choice.active else "# "
    return [f"{mark}{line}" for line in block(option.name, option.shown)]


def _sentence(option: Option) -> str:
    meaning = " ".join(option.meaning.split())
    default = "Required." if option.required else f"Default: {option.default or 'none'}."
    return f"{meaning} Type: {option.type}. {default}".strip()


def _text(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"## {indent}", subsequent_indent=f"## {indent}", break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip

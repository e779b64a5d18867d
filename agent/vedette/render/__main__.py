"""`python -m vedette.render [--check]`: keep the generated texts of the built-in checks up to date.

It rewrites, for each check of `vedette_checks`, the marked sections of its README.md, its conf.yaml.example, and
in a source checkout conf.d/<check>.yaml.example and the tables of options in docs/sinks.md and docs/notifiers.md.
With `--check` it writes nothing and exits 1 if a text is stale.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vedette.plugins import Registry
from vedette.render import example_yaml, fill, options_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette.plugins import Group
    from vedette.render.options import Plugin

_BUILT_IN = "vedette_checks."
_PAGES: tuple[Group, ...] = ("sinks", "notifiers")
_TABLE = re.compile(r"(<!-- options: ([\w-]+) -->\n).*?(\n?<!-- /options -->)", re.DOTALL)


def texts(plugin: Plugin) -> Iterator[tuple[Path, str]]:
    """The generated files of a plugin that lives in a folder of its own, each with what it should hold."""
    folder = Path(inspect.getfile(plugin)).parent
    readme, example = folder / "README.md", example_yaml(plugin)
    old = readme.read_text(encoding="utf-8") if readme.exists() else f"# {plugin.name}\n"
    for name in ("options", "metrics"):
        if f"<!-- {name} -->" not in old:
            old = f"{old.rstrip()}\n\n## {name.capitalize()}\n\n<!-- {name} -->\n<!-- /{name} -->\n"
    yield readme, fill(old, plugin)
    yield folder / "conf.yaml.example", example
    root = folder.parents[2]
    if (root / "conf.d").is_dir() and (root / "pyproject.toml").is_file():
        yield root / "conf.d" / f"{plugin.name}.yaml.example", example


def pages(root: Path, registry: Registry) -> Iterator[tuple[Path, str]]:
    """The pages of a source checkout about sinks and notifiers, each with what it should hold."""
    for group in _PAGES:
        page = root / "docs" / f"{group}.md"
        if page.is_file():

            def table(found: re.Match[str], group: Group = group) -> str:
                return f"{found[1]}{options_table(registry.load(group, found[2])).strip()}\n<!-- /options -->"

            yield page, _TABLE.sub(table, page.read_text(encoding="utf-8"))


def main(arguments: list[str] | None = None) -> int:
    """Rewrite what is stale, or with `--check` list it; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m vedette.render", description="Write the generated texts of the built-in checks."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something is stale")
    check = parser.parse_args(arguments).check
    registry, stale = Registry(), []
    names = [name for name in registry.names("checks") if registry.entry("checks", name).value.startswith(_BUILT_IN)]
    written = [one for name in names for one in texts(registry.load("checks", name))]
    for path, text in [*written, *pages(Path(__file__).parents[3], registry)]:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not check:
            path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{'stale' if check else 'written'}: {path}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

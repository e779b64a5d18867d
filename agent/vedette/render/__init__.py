"""Floor 2: everything that is written *about* a plugin, made from its class and its options model.

The pydantic model is the only source of options: example file, README tables and JSON Schema derive from it,
so that none of them can be out of date. `python -m vedette.render` rewrites those of the built-in checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette.render.example import example_config, example_yaml
from vedette.render.schema import json_schema
from vedette.render.tables import metrics_table, options_table

if TYPE_CHECKING:
    from vedette.render.options import Plugin

__all__ = ["example_config", "example_yaml", "fill", "json_schema", "metrics_table", "options_table"]


def fill(readme: str, plugin: Plugin) -> str:
    """The README with the text between its markers written anew; a marker that is not there is left out.

    Markers are `<!-- options -->` … `<!-- /options -->` and `<!-- metrics -->` … `<!-- /metrics -->`.

    Raises:
        ValueError: a marker is opened and never closed.
    """
    for name, write in (("options", options_table), ("metrics", metrics_table)):
        head, tail = f"<!-- {name} -->", f"<!-- /{name} -->"
        if head not in readme:
            continue
        before, _, rest = readme.partition(head)
        _, closed, after = rest.partition(tail)
        if not closed:
            raise ValueError(f"{head} has no {tail} after it")
        readme = f"{before}{head}\n\n{write(plugin)}\n{tail}{after}"
    return readme

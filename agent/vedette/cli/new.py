"""`vedette new-plugin`: the package of a new check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette.cli import OK

if TYPE_CHECKING:
    from argparse import Namespace


def new_plugin(options: Namespace) -> int:
    """Write the package, and say what to do with it."""
    from vedette.scaffold import write_package

    written = write_package(options.name, options.parent)
    folder = options.parent / written[0].parts[0]
    for path in written:
        print(options.parent / path)
    print(
        f"\ncd {folder}\n"
        "pip install -e '.[dev]'\n"
        "pytest\n"
        f"cp conf.d/{options.name}.yaml.example …/conf.d/{options.name}.yaml     # then: vedette reload"
    )
    return OK

"""Floor 5: options as YAML that our loader reads back as they are."""

from __future__ import annotations

from typing import Any, Final

import yaml

_ODD: Final = (".inf", "-.inf", "+.inf", ".nan")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Nothing is written as an anchor, which people do not read."""
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    """Words that YAML 1.1 reads as text, but 1.2 as numbers, need quotes."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="'" if _is_number(value) else None)


_Dumper.add_representer(str, _text)


def _is_number(value: str) -> bool:
    for kind in (float, lambda text: int(text, 0)):
        try:
            kind(value)
        except ValueError:
            continue
        return True
    return value.lower() in _ODD


def to_yaml(content: dict[str, Any]) -> str:
    """The text of a file."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)

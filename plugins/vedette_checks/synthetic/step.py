"""A step of the configuration made ready: its templates compiled, its conditions and extractions at hand."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from vedette_checks.synthetic.conditions import Wanted
from vedette_checks.synthetic.extract import Extraction, extraction, search
from vedette_checks.synthetic.options import Auth, StepConfig
from vedette_checks.synthetic.reading import needs
from vedette_checks.synthetic.request import Request
from vedette_checks.synthetic.templates import Template, Variables, as_text, compiled, filled


class ElsewhereError(ValueError):
    """A variable would send the request to where it must not go."""


class Step:
    """One step, ready to be performed in many runs.

    Args:
        config: its options.
        base_url: what its path is appended to.
        headers: the flow's.
    """

    def __init__(self, config: StepConfig, base_url: str, headers: Mapping[str, str]) -> None:
        self.config = config
        self.name = config.name
        self.method = config.method
        self.needs = needs(config, dict(headers))
        """The variables that it cannot do without."""
        self.names = needs(config.model_copy(update={"headers": {}, "auth": None, "when": ""}), {})
        """Those of them that say what it is about, and not merely who asks."""
        self.shown = f"{config.method} {config.target.partition('?')[0]}"
        """The request as it may be shown: what variables stand for is not in it."""
        self.extractions: dict[str, Extraction] = {name: extraction(text) for name, text in config.extract.items()}
        awaits_status = config.until is not None and bool(config.until.status)  # then others come before it
        self.wanted = Wanted(config.expect, default=not awaits_status)
        self.until = Wanted(config.until, default=False) if config.until is not None else None
        self.when: Callable[[Any], Any] | None = search(config.when) if config.when else None
        self._base_url = base_url.rstrip("/")
        self._target: Template = Template(config.target)
        self._headers = compiled({**headers, **config.headers})
        self._auth = config.auth
        self._query = compiled(config.query)
        self._json, self._form, self._body = compiled(config.json_body), compiled(config.form), compiled(config.body)

    def request(self, variables: Variables, marks: Mapping[str, str]) -> Request:
        """The request with these variables.

        Args:
            variables: values by name.
            marks: headers that every request of this kind has.

        Raises:
            UnsetError: it needs a variable that has no value.
            ElsewhereError: a variable leads to another host than `base_url`.
        """
        headers = {name: as_text(value) for name, value in filled(self._headers, variables).items()}
        if self._auth is not None:
            headers["Authorization"] = _authorization(self._auth, variables)
        body = filled(self._body, variables)
        return Request(
            method=self.method,
            url=self._url(variables),
            headers={**marks, **headers},
            query=_fields(filled(self._query, variables)),
            json=filled(self._json, variables),
            form=None if self._form is None else _fields(filled(self._form, variables)),
            body=None if body is None else as_text(body),
        )

    def _url(self, variables: Variables) -> str:
        target = self._target
        if not target.text.startswith("{{"):
            path = target.fill(variables, lambda text: quote(text, safe=""))
            return f"{self._base_url}{path}" if path.startswith("/") else path
        url = target.fill(variables)
        if url.startswith("/") and not url.startswith("//"):
            return f"{self._base_url}{url}"
        if self._base_url and _origin(url) != _origin(self._base_url):
            raise ElsewhereError("a variable leads to another host than `base_url`")
        return url


def _origin(url: str) -> tuple[str, str, int | None] | None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    return parsed.scheme, parsed.host, parsed.port


def _authorization(auth: Auth, variables: Variables) -> str:
    def value(text: str) -> str:
        return Template(text).fill(variables)

    if auth.bearer is not None:
        return f"Bearer {value(auth.bearer.reveal())}"
    password = value(auth.password.reveal()) if auth.password is not None else ""
    return f"Basic {b64encode(f'{value(auth.username)}:{password}'.encode()).decode()}"


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a form or a query as text; a list makes a field several times."""
    return {
        name: [as_text(item) for item in value] if isinstance(value, list) else as_text(value)
        for name, value in values.items()
    }

"""A request with every variable filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """A request with every variable filled in.

    Attributes:
        method: HTTP method.
        url: absolute.
        headers: all but those that follow from the body.
        query: added to the URL's own.
        json: body as JSON, if it is not None.
        form: body as a form.
        body: body as it is.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, Any]
    json: Any = None
    form: Mapping[str, Any] | None = None
    body: str | None = None

"""The full template of the route that served a request: `/v1/payments/{id}`, with the prefixes of mounts and routers.

Routers leave the route in the scope, but its path is only what follows the last mount, and with recent FastAPI what
follows the last `include_router`; the prefix that was matched holds raw values. So the tree of routes is walked once,
and each route is looked up in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

_FIELD = re.compile(r"\\\{[^{}]*\\\}")
_MOST_WALKS = 100
_DEEPEST = 20
_MOST_WRAPPERS = 10


class Templates:
    """Finds templates for one application.

    Args:
        app: the application that a middleware wraps, whose routes are walked where the scope names none.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._known: dict[int, tuple[Any, list[str]]] = {}
        self._walks = 0

    def find(self, scope: Any, root: Any) -> str | None:
        """The template of the route that a scope ended at; None if it is none.

        Args:
            scope: of ASGI, after the application was called.
            root: `scope["app"]` as it was before: the outermost application with routes.
        """
        served = _served(scope)
        if served is None:
            return None
        outermost = self._app if root is None else root
        found = self._known.get(id(served))
        if found is None:
            found = self._walk(served, outermost)
        if len(found[1]) == 1 and "route" in scope:
            return found[1][0]
        path = scope.get("path", "")
        fitting = _fitting(found[1], path)
        if fitting is None and "route" not in scope:  # an old Starlette names the endpoint only, which may serve anew
            fitting = _fitting(self._walk(served, outermost)[1], path)
        return fitting

    def _walk(self, served: Any, root: Any) -> tuple[Any, list[str]]:
        """Walk the tree, for a route that is new; what is not in it has its own path."""
        if self._walks < _MOST_WALKS:
            self._walks += 1
            self._known = {}
            for owner, template in _tree(_routes(root) or _behind(root), ""):
                templates = self._known.setdefault(id(owner), (owner, []))[1]
                if template not in templates:
                    templates.append(template)
        found = self._known.get(id(served))
        if found is None:
            own = getattr(served, "path", None)
            found = (served, [own] if isinstance(own, str) and not _inner(served) else [])
            if self._walks < _MOST_WALKS:
                self._known[id(served)] = found
        return found


def _served(scope: Any) -> Any:
    """What tells the route apart: FastAPI's route in its place among routers, else the route, else the endpoint."""
    route = scope.get("route")
    if route is None:
        return scope.get("endpoint")
    context = scope.get("fastapi")
    if isinstance(context, dict):
        placed = context.get("effective_route_context")
        if placed is not None and getattr(placed, "original_route", None) is route:
            return placed
    return route


def _tree(routes: Iterable[Any], prefix: str, depth: int = 0) -> Iterator[tuple[Any, str]]:
    """Each route, and each endpoint, with its full template."""
    if depth > _DEEPEST:
        return
    for route in routes:
        placed = getattr(route, "effective_route_contexts", None)
        if placed is not None:  # FastAPI's included router
            for context in placed():
                yield from _one(context, getattr(context, "starlette_route", None) or context, prefix, depth)
        else:
            yield from _one(route, route, prefix, depth)


def _one(owner: Any, route: Any, prefix: str, depth: int) -> Iterator[tuple[Any, str]]:
    own = getattr(route, "path", "")  # a Host has none
    template = prefix + (own if isinstance(own, str) else "")
    inner = _inner(route)
    if inner:
        yield from _tree(inner, template, depth + 1)
        return
    yield owner, template
    for endpoint in (getattr(route, "endpoint", None), getattr(route, "app", None)):
        if endpoint is not None:
            yield endpoint, template


def _routes(owner: Any) -> list[Any]:
    return list(getattr(owner, "routes", None) or ())


def _inner(route: Any) -> list[Any]:
    """The routes below a mount or a host."""
    return _routes(route) or (_behind(route) if hasattr(route, "routes") else [])


def _behind(owner: Any) -> list[Any]:
    """The routes of an application behind plain ASGI wrappers, each of which has what it wraps as `app`."""
    for _ in range(_MOST_WRAPPERS):
        owner = getattr(owner, "app", None)
        if found := _routes(owner):
            return found
    return []


def _fitting(templates: list[str], path: str) -> str | None:
    """Of the places that one route has in the tree, the one that the path fits, or that is a mount above it."""
    for end in ("/?$", "/"):
        for template in templates:
            if re.search(_FIELD.sub(".+", re.escape(template)) + end, path):
                return template
    return None

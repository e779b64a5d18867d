"""A Datadog of our own: monitors and dashboards with the documented rules, defaults, pages, limits and refusals.

Source: Datadog API reference (v1), "Monitors", "Dashboards", "Rate Limits"; datadog-api-client's models.
"""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from datadog_api_client.configuration import Configuration
from datadog_api_client.model_utils import validate_and_convert_types
from datadog_api_client.v1.model.dashboard import Dashboard
from datadog_api_client.v1.model.monitor import Monitor

from sinks.datadog_models import unparsed

if TYPE_CHECKING:
    from collections.abc import Iterator

API_KEY, APP_KEY = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210fedcba98"

_METRIC = (
    r"(avg|sum|min|max|p50|p95|count):[A-Za-z][A-Za-z0-9_.]*\{[^{}]+\}( by \{[a-z0-9_.,/-]+\})?(\.as_(count|rate)\(\))?"
)
_TERM = rf"((monotonic_diff|per_second)\({_METRIC}\)|{_METRIC})"
_WINDOW = r"last_([1-9][0-9]*m|[1-9][0-9]?h|[12]d)"
_ALERT = re.compile(rf"(avg|sum|min|max|last)\({_WINDOW}\):(.+) (>|>=|<|<=) (-?[0-9.]+)")
_STATUS = re.compile(
    r'"[a-z0-9_.]+"\.over\("[^"]+"(, "[^"]+")*\)\.by\("[^"]+"(, ?"[^"]+")*\)\.last\((\d+)\)\.count_by_status\(\)'
)
_QUERY = re.compile(rf"{_TERM}")
_CONFIGURATION = Configuration()


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def wholly_parsed(model: Any, body: dict[str, Any]) -> None:
    """Refuse what Datadog's own models do not know, at any depth."""
    try:
        read = validate_and_convert_types(body, (model,), ["body"], True, True, _CONFIGURATION)
    except Exception as error:
        raise Refusal(400, f"not a {model.__name__}: {error}") from None
    if wrong := list(unparsed(read, model.__name__, strictly=True)):
        raise Refusal(400, f"not known to the model: {', '.join(map(str, wrong))}")


def check_monitor(body: dict[str, Any]) -> None:
    for name in ("type", "query", "name"):
        if not body.get(name):
            raise Refusal(400, f"The value provided for parameter '{name}' is invalid")
    wholly_parsed(Monitor, body)
    options = body.get("options", {})
    thresholds = options.get("thresholds", {})
    if body["type"] in ("query alert", "metric alert"):
        _check_alert(body["query"], thresholds)
    elif body["type"] == "service check":
        found = _STATUS.fullmatch(body["query"])
        if not found:
            raise Refusal(400, "The value provided for parameter 'query' is invalid")
        if not max(thresholds.values()) <= int(found[3]) <= 100:
            raise Refusal(400, "last() must be at least the highest threshold and at most 100")
        if set(thresholds) - {"critical", "warning", "ok"}:
            raise Refusal(400, "thresholds of a service check are critical, warning and ok")
    elif body["type"] != "composite":
        raise Refusal(400, "The value provided for parameter 'type' is invalid")
    frame = options.get("no_data_timeframe")
    if options.get("notify_no_data") and (frame is None or frame < 2):
        raise Refusal(400, "no_data_timeframe must be at least 2 minutes")
    for tag in body.get("tags", []):
        if not re.fullmatch(r"[a-z][a-z0-9_:./-]{0,199}", tag):
            raise Refusal(400, f"'{tag}' is not a valid tag")


def _check_alert(query: str, thresholds: dict[str, float]) -> None:
    found = _ALERT.fullmatch(query)
    if not found:
        raise Refusal(400, "The value provided for parameter 'query' is invalid")
    rest = _QUERY.sub("1", found[3])
    if not re.fullmatch(r"[0-9.+*/() -]+", rest):
        raise Refusal(400, f"The value provided for parameter 'query' is invalid: {rest}")
    compile(rest.strip(), "query", "eval")
    sign = 1 if found[4].startswith(">") else -1
    critical = thresholds.get("critical")
    if critical != float(found[5]):
        raise Refusal(400, "Alert threshold does not match that used in the query.")
    order = {name: sign * value for name, value in thresholds.items()}
    if order.get("critical_recovery", order["critical"]) > order["critical"]:
        raise Refusal(400, "critical_recovery must be on the other side of critical")
    if order.get("warning", float("-inf")) >= order["critical"]:
        raise Refusal(400, "warning must come before critical")
    if "warning_recovery" in order and order["warning_recovery"] > order["warning"]:
        raise Refusal(400, "warning_recovery must be on the other side of warning")


def check_dashboard(body: dict[str, Any]) -> None:
    for name in ("title", "layout_type", "widgets"):
        if name not in body:
            raise Refusal(400, f"The value provided for parameter '{name}' is invalid")
    wholly_parsed(Dashboard, body)
    if any(not tag.startswith("team:") for tag in body.get("tags") or []) or len(body.get("tags") or []) > 5:
        raise Refusal(400, "Invalid tags: only team:<name> is allowed, five at most")
    for definition in definitions(body["widgets"]):
        for request in definition.get("requests", []):
            names = set()
            for query in request["queries"]:
                names.add(query["name"])
                if not _QUERY.fullmatch(query["query"]):
                    raise Refusal(400, f"Invalid query: {query['query']}")
            for formula in request["formulas"]:
                if set(re.findall(r"[a-z_][a-z0-9_]*", formula["formula"])) - names:
                    raise Refusal(400, f"Invalid formula: {formula['formula']}")


def definitions(widgets: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for widget in widgets:
        if "widgets" in widget["definition"]:
            yield from definitions(widget["definition"]["widgets"])
        else:
            yield widget["definition"]


class Datadog:
    """What stands there, and what was asked.

    Attributes:
        objects: by kind and id.
        writes: method and path of each that was taken.
        bodies: what was sent with them.
        adds: options that monitors get whatever is sent, as of a later version.
        words: what they say.
        planned: answers to give first: (part of the path, method, status, headers, done all the same?).
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {"monitor": {}, "dashboard": {}}
        self.asked: list[tuple[str, str]] = []
        self.writes: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.planned: list[tuple[str, str, int, dict[str, str], bool]] = []
        self.adds: dict[str, Any] = {}
        self.words = "planned"
        self.last = 100

    def answer(self, method: str, url: str, headers: Any, data: bytes) -> tuple[int, dict[str, str], Any]:
        parts = urlsplit(url)
        self.asked.append((method, parts.path))
        if headers.get("DD-API-KEY") != API_KEY or headers.get("DD-APPLICATION-KEY") != APP_KEY:
            return 403, {}, {"errors": ["Forbidden"]}
        for plan in self.planned:
            if plan[0] in parts.path and plan[1] == method:
                self.planned.remove(plan)
                if plan[4]:
                    self._do(method, parts.path, parse_qs(parts.query), json.loads(data or b"{}"))
                return plan[2], plan[3], {"errors": [self.words]}
        try:
            return 200, {}, self._do(method, parts.path, parse_qs(parts.query), json.loads(data or b"{}"))
        except Refusal as error:
            return error.status, {}, {"errors": [str(error)]}

    def _do(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> Any:
        found = re.fullmatch(r"/api/v1/(monitor|dashboard)(?:/([a-z0-9-]+))?", path)
        if not found:
            raise Refusal(404, "Not found")
        kind, own = found[1], found[2]
        there = self.objects[kind]
        if own is not None and own not in there:
            raise Refusal(404, f"{kind} not found")
        if method == "GET":
            return there[own] if own else self._listed(kind, query)
        if method == "DELETE":
            del there[own]
            self.writes.append((method, path))
            return {f"deleted_{kind}_id": own}
        (check_monitor if kind == "monitor" else check_dashboard)(body)
        self.writes.append((method, path))
        self.bodies.append(body)
        if own is None:
            self.last += 1
            own = str(self.last) if kind == "monitor" else f"abc-{self.last}"
        there[own] = stored(kind, own, body)
        if kind == "monitor":
            there[own]["options"].update(self.adds)
        return there[own]

    def _listed(self, kind: str, query: dict[str, list[str]]) -> Any:
        if kind == "dashboard":
            start, count = int(query.get("start", ["0"])[0]), int(query.get("count", ["100"])[0])
            keys = ("id", "title", "description", "layout_type", "created_at")
            all_ = [{key: one.get(key) for key in keys} for one in self.objects[kind].values()]
            return {"dashboards": all_[start : start + count]}
        wanted = set(query.get("monitor_tags", [""])[0].split(",")) - {""}
        found = [one for one in self.objects[kind].values() if wanted <= set(one["tags"])]
        if "page" not in query:
            return found
        size = int(query.get("page_size", ["100"])[0])
        page = int(query["page"][0])
        return found[page * size : (page + 1) * size]


def stored(kind: str, own: str, body: dict[str, Any]) -> dict[str, Any]:
    """As Datadog keeps it: with ids, authors, states and defaults, in its own order and spelling."""
    if kind == "dashboard":
        number = iter(range(1, 10_000))

        def with_ids(widgets: list[dict[str, Any]]) -> list[dict[str, Any]]:
            made = []
            for widget in widgets:
                definition = dict(widget["definition"])
                if "widgets" in definition:
                    definition["widgets"] = with_ids(definition["widgets"])
                if definition["type"] == "timeseries":
                    definition = {"show_legend": True, "title_size": "16", "title_align": "left", **definition}
                made.append({"id": next(number), "definition": definition})
            return made

        return {
            "restricted_roles": [],
            "author_handle": "a@example.com",
            "url": f"/dashboard/{own}",
            "is_read_only": False,
            "created_at": "2026-01-01T00:00:00Z",
            "modified_at": "2026-01-01T00:00:00Z",
            **body,
            "id": own,
            "widgets": with_ids(body["widgets"]),
        }
    options = {"silenced": {}, "new_host_delay": 300, "include_tags": True, "notify_audit": False, "locked": False}
    given = {key: value for key, value in body.get("options", {}).items() if value is not None}
    if "thresholds" in given:
        given["thresholds"] = {key: float(value) for key, value in given["thresholds"].items()}
    simple = body["type"] == "query alert" and "(" not in _QUERY.sub("1", body["query"].partition(":")[2])
    return {
        "priority": None,
        "restricted_roles": None,
        "multi": True,
        "overall_state": "OK",
        "deleted": None,
        **body,
        "id": int(own),
        "type": "metric alert" if simple else body["type"],
        "message": body.get("message", "").strip(),
        "tags": list(reversed(body.get("tags", []))),
        "created": "2026-01-01T00:00:00.000000+00:00",
        "options": {**options, **given},
    }


@contextmanager
def serving() -> Iterator[tuple[str, Datadog]]:
    """Its address, and what is behind it."""
    datadog = Datadog()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _any(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, body = datadog.answer(self.command, self.path, self.headers, data)
            text = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(text)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = _any

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", datadog
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


__all__ = ["API_KEY", "APP_KEY", "Datadog", "check_dashboard", "check_monitor", "definitions", "serving"]

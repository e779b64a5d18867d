"""Datadog's API by Datadog's own library, with the patience that the library lacks.

Source: Datadog API reference, "Rate Limits": after a 429, `X-RateLimit-Reset` says in how many seconds to ask again.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import datadog
from datadog import api
from datadog.api.api_client import APIClient
from datadog.api.dashboards import Dashboard
from datadog.api.exceptions import ApiError, ClientError, HTTPError, HttpTimeout
from datadog.api.http_client import RequestClient
from datadog.api.monitors import Monitor

from vedette.config.problems import one_line
from vedette.datadog.payloads import MANAGED
from vedette.errors import VedetteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from vedette.secrets import Masker

_ATTEMPTS: Final = 5
_LONGEST_WAIT: Final = 120.0
_MONITORS_A_PAGE: Final = 200
_DASHBOARDS_A_PAGE: Final = 100
_MOST_PAGES: Final = 1000


class Refused(VedetteError):
    """Datadog takes no such request; the text says why, in its words."""


class KeyRefused(Refused):
    """The keys are not good, or lack a right: nothing else will go either."""


class Missing(Refused):
    """What was asked about is not there (any more)."""


class Unreachable(VedetteError):
    """No usable answer, though it was asked several times.

    Args:
        message: what happened.
        unsure: whether the request may have been done all the same.
    """

    def __init__(self, message: str, *, unsure: bool = False) -> None:
        super().__init__(message)
        self.unsure = unsure


def wait(seconds: float) -> None:
    """Wait; tests do not."""
    time.sleep(seconds)


def _code(error: HTTPError) -> str:
    """The status, which the library keeps only within a sentence."""
    found = re.search(r"\b[1-5][0-9][0-9]\b", str(error))
    return found[0] if found else "with an error"


class _Patient:
    """The library's way to ask, again where that helps: 429 as its header says, 5xx, a broken connection, silence.

    What creates something is not sent again where the first may have arrived: two monitors would stand there.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    def request(self, **options: Any) -> Any:
        """One request of the library's."""
        options["timeout"] = self._timeout
        once = options["method"] == "POST"
        what = ""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                result = RequestClient.request(**options)
            except HttpTimeout:
                what, pause = f"no answer within {self._timeout:g}s", _backoff(attempt)
            except ClientError:
                what, pause = "no connection", _backoff(attempt)
            except HTTPError as error:
                what, pause = f"Datadog answers {_code(error)}", _backoff(attempt)
            else:
                if result.status_code != 429:
                    return result
                what, pause = "Datadog is asked too often (429)", _reset(result.headers)
                if attempt < _ATTEMPTS:
                    wait(pause)
                continue
            if once:
                raise Unreachable(what, unsure=True)
            if attempt < _ATTEMPTS:
                wait(pause)
        raise Unreachable(f"{what}, {_ATTEMPTS} times")


def _backoff(attempt: int) -> float:
    return min(2.0 ** (attempt - 1), _LONGEST_WAIT)


def _reset(headers: Any) -> float:
    try:
        asked = float(headers.get("X-RateLimit-Reset", ""))
    except ValueError:
        return 5.0
    return min(max(asked, 0.0), _LONGEST_WAIT)


@dataclass(frozen=True, slots=True)
class Access:
    """Where the account is, and the keys to it.

    Attributes:
        url: of the API, such as https://api.datadoghq.eu.
        api_key: names the account.
        app_key: may change monitors and dashboards.
        ca_file: certificate authorities instead of the system's, or nothing.
        proxy: to go through, or nothing.
        timeout: seconds that one request may take.
    """

    url: str
    api_key: str
    app_key: str
    ca_file: str = ""
    proxy: str = ""
    timeout: float = 20.0


class Account:
    """Monitors and dashboards of one account. The library keeps its keys in globals: use one at a time, as `with`.

    Args:
        access: the account.
        masker: knows the keys; what Datadog says is masked.
    """

    def __init__(self, access: Access, masker: Masker) -> None:
        self._access = access
        self._masker = masker
        self._before: tuple[Any, ...] = ()

    def __enter__(self) -> Account:
        self._before = (api._api_key, api._application_key, api._api_host, api._mute, api._cacert, api._proxies)
        access = self._access
        options: dict[str, Any] = {"mute": False, "cacert": access.ca_file or True}
        if access.proxy:
            options["proxies"] = {"http": access.proxy, "https": access.proxy}
        datadog.initialize(
            api_key=access.api_key,
            app_key=access.app_key,
            api_host=access.url,
            host_name="vedette",  # else it looks for the machine's, which may take seconds
            hostname_from_config=False,
            **options,
        )
        APIClient._http_client = _Patient(access.timeout)  # type: ignore[assignment] # the documented plug
        logging.getLogger("datadog.api").setLevel(logging.CRITICAL)  # what it logs is raised too
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        APIClient._http_client = None
        api._api_key, api._application_key, api._api_host, api._mute, api._cacert, api._proxies = self._before

    def monitors(self) -> Iterator[dict[str, Any]]:
        """All monitors that bear our tag, page by page."""
        for page in range(_MOST_PAGES):
            found = self._ask(
                Monitor.get_all, monitor_tags=[MANAGED], page=page, page_size=_MONITORS_A_PAGE, with_downtimes=False
            )
            yield from _dicts(found)
            if len(found) < _MONITORS_A_PAGE:
                return

    def dashboards(self) -> Iterator[dict[str, Any]]:
        """Summaries of all dashboards, page by page: id, title, description."""
        for page in range(_MOST_PAGES):
            start = page * _DASHBOARDS_A_PAGE
            answer = self._ask(Dashboard.get_all, count=_DASHBOARDS_A_PAGE, start=start)
            found = answer.get("dashboards") if isinstance(answer, dict) else None
            if not isinstance(found, list):
                raise Unreachable("Datadog's answer holds no dashboards")
            yield from _dicts(found)
            if len(found) < _DASHBOARDS_A_PAGE:
                return

    def dashboard(self, own: str) -> dict[str, Any]:
        """One dashboard whole."""
        return _dict(self._ask(Dashboard.get, own))

    def create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create a `monitor` or `dashboard`; what now stands there."""
        return _dict(self._ask(_resource(kind).create, **body))

    def update(self, kind: str, own: Any, body: dict[str, Any]) -> dict[str, Any]:
        """Replace one; what now stands there."""
        return _dict(self._ask(_resource(kind).update, own, **body))

    def delete(self, kind: str, own: Any) -> None:
        """Take one away."""
        with suppress(Missing):  # somebody, or an attempt whose answer got lost, was first
            self._ask(_resource(kind).delete, own)

    def _ask(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except ApiError as error:
            raise self._refusal(error) from None
        except ValueError:  # its text holds the whole answer
            raise Unreachable("Datadog's answer is no JSON; is the address right?", unsure=True) from None
        except HTTPError as error:
            raise Unreachable(f"Datadog answers {_code(error)}") from None

    def _refusal(self, error: ApiError) -> Refused:
        answer = error.args[0] if error.args else {}
        errors = answer.get("errors") if isinstance(answer, dict) else None
        said = "; ".join(map(str, errors)) if isinstance(errors, list) else str(errors or "no reason given")
        text = one_line(self._masker(said))
        if text.lower().rstrip(".") in ("forbidden", "unauthorized", "invalid api key", "invalid application key"):
            return KeyRefused(
                f"the keys are refused ({text}): see that both belong to this site, and that the application key may "
                "read and write monitors and dashboards"
            )
        kind = Missing if "not found" in text.lower() else Refused
        return kind(f"Datadog refuses it: {text}")


def _resource(kind: str) -> Any:
    return Monitor if kind == "monitor" else Dashboard


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(value, list):
        raise Unreachable("Datadog's answer holds no list")
    return (one for one in value if isinstance(one, dict))


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreachable("Datadog's answer is not what was asked for")
    return value

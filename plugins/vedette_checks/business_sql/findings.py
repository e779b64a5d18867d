"""What a database or its driver says when something is wrong, as one sentence without secrets, and a hint."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from vedette import CheckError, SecretError
from vedette.kit import cut_text

_LONGEST = 200
_LOST = ("connection is closed", "connection was closed", "server closed", "terminating connection", "shutting down",
         "starting up", "connection reset", "cannot connect now")  # fmt: skip


class RefusedError(CheckError):
    """The database did not answer one query; it may answer the next."""


def unreachable(error: BaseException, place: str, secrets: Iterator[str] | tuple[str, ...] = ()) -> CheckError:
    """Why there is no talking to the database.

    Args:
        error: what the driver raised.
        place: which database, without the password.
        secrets: what must not be shown.
    """
    if isinstance(error, SecretError):
        return CheckError(f"no password for {place}: {error}")
    for cause in _causes(error):
        if isinstance(cause, TimeoutError):
            return CheckError(f"{place} did not answer in time", hint="it is busy or out of reach")
        if isinstance(cause, ConnectionRefusedError):
            return CheckError(f"nothing listens on {place}", hint="is the server running, and is this its address?")
        if isinstance(cause, socket.gaierror):
            return CheckError(f"the host name of {place} does not resolve", hint="check `url`")
        if isinstance(cause, sqlite3.OperationalError) and "unable to open" in str(cause):
            return CheckError(f"{place} cannot be opened", hint="does the file exist, and may the agent read it?")
    said = clean(error, secrets)
    if "password" in said:
        return CheckError(f"{place} refused the login: {said}", hint="check the user in `url`, and `password`")
    return CheckError(f"{place}: {said}")


def refused(error: BaseException, query: str, secrets: tuple[str, ...] = ()) -> RefusedError:
    """Why one query was not answered."""
    said = clean(error, secrets)
    low = said.lower()
    if isinstance(error, TimeoutError) or "statement timeout" in low or low == "interrupted":
        return RefusedError(f"{query}: took longer than statement_timeout", hint="add an index, or raise it")
    if "lock timeout" in low or "database is locked" in low:
        return RefusedError(f"{query}: gave up waiting for a lock", hint="somebody writes for a long time")
    if "read-only" in low or "readonly" in low or "query_only" in low:
        return RefusedError(f"{query}: {said}", hint="queries only read")
    if "permission denied" in low:
        return RefusedError(f"{query}: {said}", hint="GRANT SELECT to the user of `url`")
    return RefusedError(f"{query}: {said}", hint="correct its `sql`" if _is_syntax(low) else "")


def lost(error: BaseException) -> bool:
    """Whether the connection is of no use after this error."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if not isinstance(error, SQLAlchemyError):
        return True
    low = str(error.orig).lower() if isinstance(error, DBAPIError) else str(error).lower()
    return any(word in low for word in _LOST)


def clean(error: BaseException, secrets: Iterator[str] | tuple[str, ...] = ()) -> str:
    """The driver's own sentence: no SQL, no values, no class names, no secrets."""
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    cause = origin.__cause__ or origin
    text = str(cause).strip().split("\n", 1)[0] or type(cause).__name__
    for secret in secrets:
        if secret:
            text = text.replace(secret, "****")
    return cut_text(text, _LONGEST)


def _is_syntax(low: str) -> bool:
    return any(
        word in low for word in ("syntax", "does not exist", "no such", "ambiguous", "must appear in the group by")
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        if isinstance(error, DBAPIError) and error.orig is not None:
            error = error.orig
        else:
            error = error.__cause__ or error.__context__

"""Turns what the driver and the server say when something is wrong into one plain sentence and a hint."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asyncpg import exceptions

from vedette import CheckError, SecretError
from vedette.kit import cut_text
from vedette_checks.postgres.target import Target

if TYPE_CHECKING:
    from vedette_checks.postgres.session import Session

_LONGEST = 200
_EXPIRED, _WRONG_NAME = (10,), (62, 64)
"""X509_V_ERR codes of OpenSSL's x509_vfy.h."""
_DENIED = re.compile(r"permission denied for (\w+) (.+)")
_RIGHTS = {"function": "EXECUTE", "aggregate": "EXECUTE", "schema": "USAGE"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, in a sentence without secrets.

    Attributes:
        message: what is wrong.
        hint: how to mend it.
        lasting: asking again soon is pointless: a right or a relation is missing.
    """

    message: str
    hint: str = ""
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def about(self, name: str) -> Finding:
        """The same, of a database that is named."""
        return replace(self, message=f"{name}: {self.message}")

    def error(self) -> CheckError:
        """The same as the error that a check raises."""
        return CheckError(self.message, hint=self.hint)


class UnusableFilesError(OSError):
    """The certificate files of a TLS connection cannot be used.

    Args:
        error: what reading them raised.
    """

    def __init__(self, error: OSError) -> None:
        why = (error.reason or "").replace("_", " ").lower() if isinstance(error, ssl.SSLError) else error.strerror
        super().__init__(f"the certificate files cannot be used: {why or type(error).__name__}")


def stuck(session: Session) -> Finding:
    """The server has not answered what it was asked, be it only to be let in, and is waited for."""
    target, alone, silence = session.target, "no second connection is made meanwhile", _time(session.silence)
    if session.pooled:
        hint = f"its pool is exhausted, or the server behind it hangs: see SHOW POOLS; {alone}"
        return Finding(f"PgBouncer at {target} has not answered for {silence}", hint)
    if not session.greeted:
        hint = f"it is frozen, or waits for a lock on its catalogs: see pg_locks; {alone}"
        return Finding(f"{target} took the connection but has not let us in for {silence}", hint)
    hint = f"it is frozen or waits for its disk; {alone}"
    return Finding(f"the server process {session.pid} has not answered for {silence}", hint)


def failure(error: BaseException, target: Target, patience: float, *, greeted: bool, pooled: bool = False) -> Finding:
    """Why there is no talking to the server.

    Args:
        error: what the driver raised.
        target: which server and database.
        patience: seconds that were waited.
        greeted: whether the server had answered on this connection before.
        pooled: whether PgBouncer is in between.
    """
    if isinstance(error, UnusableFilesError):
        return Finding(str(error), "check ca_file, cert_file and key_file")
    if isinstance(error, SecretError):
        return Finding(f"no password for {target}: {error}")
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _tls(cause, target)
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return _silence(target, patience, greeted, pooled)
    for cause in causes:
        if isinstance(cause, exceptions.PostgresError) and (found := _refused(cause, target)):
            return found
    for cause in causes:
        if isinstance(cause, socket.gaierror | UnicodeError):
            return Finding(f"the host name {target.host} does not resolve", "check `host`, and the machine's DNS")
        if isinstance(cause, OSError) and (found := _system(cause, target)):
            return found
    if isinstance(error, exceptions.PostgresError):
        return Finding(f"{target}: {_clean(error, target)}")
    if isinstance(error, exceptions.ClientConfigurationError) or "rejected SSL upgrade" in str(error):
        return Finding(f"{target} does not speak TLS", "set `sslmode: prefer`, or switch `ssl` on at the server")
    if (
        isinstance(error, exceptions.InternalClientError)
        or "closed" in str(error).lower()
        or any(isinstance(cause, ConnectionError | EOFError) for cause in causes)
    ):
        return Finding(f"{target} closed the connection", "it is shutting down or restarting, or a proxy is in between")
    return Finding(f"{target}: {type(error).__name__}")


def refusal(error: exceptions.PostgresError, what: str, target: Target) -> Finding:
    """Why the server did not answer one query.

    Args:
        error: the server's error.
        what: what was asked for, in a word or two, such as `pg_stat_wal`.
        target: which server and database.
    """
    if isinstance(error, exceptions.LockNotAvailableError):
        return Finding(f"{what}: gave up waiting for a lock", "see who holds it: postgres.blocking and pg_locks")
    if isinstance(error, exceptions.QueryCanceledError):
        return Finding(f"{what}: took longer than statement_timeout", "the server is busy, or raise `timeout`")
    if isinstance(error, exceptions.InsufficientPrivilegeError):
        user = target.username or "the role"
        return Finding(f"{what}: {user} may not read it", f"GRANT pg_monitor TO {user}", lasting=True)
    if isinstance(
        error, exceptions.UndefinedTableError | exceptions.UndefinedFunctionError | exceptions.UndefinedColumnError
    ):
        return Finding(f"{what}: this server does not have it", lasting=True)
    if "shared_preload_libraries" in str(error):
        return Finding(f"{what}: the server has not loaded it", "add it to shared_preload_libraries and restart")
    return Finding(f"{what}: {_clean(error, target)}")


def refusal_of_own(
    error: exceptions.PostgresError | exceptions.InterfaceError, what: str, target: Target, before: int = 0
) -> Finding:
    """Why the server did not answer a query that the user wrote.

    Args:
        error: the server's error, or the driver's.
        what: what the user calls it.
        target: which server and database.
        before: characters that we put before it.
    """
    if isinstance(error, exceptions.LockNotAvailableError | exceptions.QueryCanceledError):
        return refusal(error, what, target)
    if isinstance(error, exceptions.InterfaceError):
        return Finding(f"{what}: the driver cannot send it", "correct its `sql`")
    said = f"{what}: {_clean(error, target)}"
    if isinstance(error, exceptions.InsufficientPrivilegeError):
        if "sequence" in str(error):
            return Finding(said, "queries only read")
        denied = _DENIED.match(str(error))
        right = _RIGHTS.get(denied[1], "SELECT") if denied else "SELECT"
        return Finding(said, f"GRANT {right} to {target.username or 'the role'}")
    if isinstance(error, exceptions.ReadOnlySQLTransactionError) or "data-modifying" in str(error):
        return Finding(said, "queries only read")
    position = getattr(error, "position", None)
    if position and int(position) > before:
        said += f" at character {int(position) - before}"
    return Finding(said, "correct its `sql`" if isinstance(error, exceptions.SyntaxOrAccessError) else "")


def denied_function(error: exceptions.InsufficientPrivilegeError) -> str:
    """The bare name of the function that the role may not call; empty where it is something else that it may not."""
    denied = _DENIED.match(str(error))
    return denied[2] if denied and _RIGHTS.get(denied[1]) == "EXECUTE" else ""


def _time(seconds: float) -> str:
    return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.2g}s"


def _refused(error: exceptions.PostgresError, target: Target) -> Finding | None:
    user = target.username or "the role"
    if isinstance(error, exceptions.InvalidCatalogNameError):
        return Finding(f"{target} has no database {target.dbname}", "check `dbname`")
    if (
        target.minted is not None
        and isinstance(error, exceptions.InvalidAuthorizationSpecificationError)  # InvalidPasswordError is one too
        and "pg_hba.conf" not in str(error)
    ):
        return Finding(f"{target} refused the password that was made for {user}", target.minted.refused)
    if isinstance(error, exceptions.InvalidPasswordError):
        if not target.password:
            return Finding(f"{target} wants a password of {user}", "set `password`")
        return Finding(f"{target} refused the password of {user}", "check `username` and `password`")
    if isinstance(error, exceptions.InvalidAuthorizationSpecificationError):
        if "pg_hba.conf" in str(error):
            hint = "add a line for this role, database and address"
            return Finding(f"pg_hba.conf of {target} does not let {user} into {target.dbname}", hint)
        return Finding(f"{target} refused {user}", "check `username`, and the server's pg_hba.conf")
    if isinstance(error, exceptions.TooManyConnectionsError):
        hint = "close idle sessions, or keep one for monitoring: superuser_reserved_connections, reserved_connections"
        return Finding(f"{target} has reached its limit of connections", hint)
    if isinstance(error, exceptions.CannotConnectNowError):
        return Finding(f"{target} is starting up, shutting down or recovering", "it answers once that is done")
    if isinstance(error, exceptions.InsufficientPrivilegeError):
        return Finding(
            f"{user} may not connect to {target.dbname}", f"GRANT CONNECT ON DATABASE {target.dbname} TO {user}"
        )
    if isinstance(error, exceptions.LockNotAvailableError):
        return Finding(f"a lock on the catalogs of {target} was not free in time", "see who holds it: pg_locks")
    if isinstance(error, exceptions.QueryCanceledError):
        hint = "it is busy, or waits for a lock on its catalogs: see pg_locks"
        return Finding(f"{target} took longer than statement_timeout to say who it is", hint)
    if isinstance(error, exceptions.AdminShutdownError | exceptions.CrashShutdownError):
        return Finding(f"{target} ended the session", "it is shutting down or restarting, or someone ended the session")
    return None


def _clean(error: BaseException, target: Target) -> str:
    text = (getattr(error, "message", "") or str(error) or type(error).__name__).split("\n", 1)[0]
    if target.password:
        text = text.replace(target.password, "****")
    return cut_text(text, _LONGEST)


def _silence(target: Target, patience: float, greeted: bool, pooled: bool) -> Finding:
    if pooled and greeted:
        hint = "PgBouncer's pool is exhausted, or the server behind it hangs: see SHOW POOLS"
        return Finding(f"{target} did not answer within {patience:.3g}s", hint)
    if greeted:
        return Finding(f"{target} did not answer within {patience:.3g}s", "it hangs or is busy: see pg_stat_activity")
    return Finding(f"no answer from {target} within {patience:.3g}s", "it is down, or a firewall drops the packets")


def _tls(error: ssl.SSLError, target: Target) -> Finding:
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "set `ca_file` to the authority that signed it"
        if error.verify_code in _EXPIRED:
            hint = "renew it on the server"
        elif error.verify_code in _WRONG_NAME:
            hint = "set `host` to a name in the certificate"
        return Finding(f"the certificate of {target} is not valid: {error.verify_message}", hint)
    reason = (error.reason or "").replace("_", " ").lower()
    return Finding(f"no TLS connection to {target}: {reason or 'it failed'}", "see `sslmode` and the certificates")


def _system(error: OSError, target: Target) -> Finding | None:
    if error.errno == errno.ECONNREFUSED or "Connect call failed" in str(error):
        return Finding(f"nothing listens on {target}", "is the server running, and is this its address?")
    if error.errno == errno.ENOENT:
        return Finding(f"there is no socket for {target}", "is the server running, with this unix_socket_directories?")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Finding(f"no permission to connect to {target}", "see the socket's folder and owner")
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return Finding(f"no route to {target}", "check the address and the network")
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__

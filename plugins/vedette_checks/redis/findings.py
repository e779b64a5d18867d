"""Turns what the client and the server say when something is wrong into one plain sentence and a hint."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from redis import exceptions

from vedette import CheckError, SecretError
from vedette.kit import cut_text
from vedette_checks.redis.address import Address

_ERRNO = re.compile(r"\[Errno (\d+)\]")
_ARGUMENTS = re.compile(r"[,;]? with args.*", re.DOTALL)  # an unknown command is quoted back, a password with it
_UNKNOWN = re.compile(r"unknown (?:sub)?command", re.IGNORECASE)
_LONGEST = 200
_TLS_HINTS = {
    "CERTIFICATE_REQUIRED": "it asks for a client certificate: set cert_file and key_file",
    "UNKNOWN_CA": "it does not trust the client certificate in cert_file",
    "WRONG_VERSION_NUMBER": "if it does not speak TLS, set `tls: false`",
    "RECORD_LAYER_FAILURE": "if it does not speak TLS, set `tls: false`",
}
_EXPIRED, _SELF_SIGNED, _WRONG_NAME = (10,), (18, 19, 20, 21), (62, 64)
"""Groups of X509_V_ERR codes of OpenSSL's x509_vfy.h."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, in a sentence without secrets.

    Attributes:
        message: what is wrong.
        hint: how to mend it.
        mild: the server is well, but does not do this for us: for want of rights, or by its role.
    """

    message: str
    hint: str = ""
    mild: bool = False

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def error(self) -> CheckError:
        """The same as the error that a check raises."""
        return CheckError(self.message, hint=self.hint)


READ_ONLY = Finding("the server is a read-only replica", "set `round_trip: false` there", mild=True)


def unknown(error: Exception) -> bool:
    """Whether the server does not have the command."""
    return _UNKNOWN.search(str(error)) is not None


@dataclass(frozen=True, slots=True)
class Advisor:
    """Explains errors of one server.

    Attributes:
        address: where the server is.
        patience: seconds that a run waits for it.
    """

    address: Address
    patience: float

    def failure(self, error: BaseException, *, greeted: bool) -> Finding:
        """Why there is no talking to the server.

        Args:
            error: what the client raised.
            greeted: whether the server had answered on this connection before.
        """
        place = str(self.address)
        if isinstance(error, SecretError):
            return Finding(f"no password for {place}: {error}")
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, ssl.SSLError):
                return self._tls(cause)
        if any(isinstance(cause, TimeoutError | exceptions.TimeoutError) for cause in causes):
            return self._silence(greeted)
        if isinstance(error, exceptions.ResponseError | exceptions.AuthenticationError | exceptions.BusyLoadingError):
            return self.refusal(error, "", "")
        for cause in causes:
            if isinstance(cause, socket.gaierror | UnicodeError):
                return Finding(
                    f"the host name {self.address.host} does not resolve", "check `host`, and the machine's DNS"
                )
        for cause in causes:
            if isinstance(cause, OSError) and (found := self._system(cause)):
                return found
        if isinstance(error, exceptions.InvalidResponse):
            return Finding(f"{place} answers, but does not speak the Redis protocol", "check the port")
        text = str(error)
        if "max number of clients" in text:
            return Finding(f"{place} has reached its limit of clients", "raise maxclients, or close idle clients")
        if "closed" in text.lower() or any(isinstance(cause, ConnectionError | EOFError) for cause in causes):
            return self._hangup()
        return Finding(f"{place}: {self._clean(text) or type(error).__name__}")

    def refusal(self, error: Exception, command: str, key: str) -> Finding:
        """Why the server refused a command.

        Args:
            error: its error reply.
            command: the command's name in lower case, with its subcommand as ACLs have it: `slowlog|get`; empty while
                logging in.
            key: glob pattern of the key that the command asked for, or empty.
        """
        text = str(error)
        user = self.address.username or "default"
        if isinstance(error, exceptions.NoPermissionError) or "NOPERM" in text:
            need = f"~{key}" if key and "to access" in text else f"+{command or 'select'}"
            spoken = (command or "select").upper().replace("|", " ")
            what = f"read {key}" if need.startswith("~") else f"run {spoken}"
            return Finding(f"the user {user} may not {what}", f"ACL SETUSER {user} {need}", mild=True)
        if command and unknown(error):
            said = command.upper().replace("|", " ")
            return Finding(f"the server does not know {said}", "it is old, or its provider took it away", mild=True)
        for sign, message, hint in _REFUSALS:
            if sign == "invalid username-password" and sign in text and self.address.minted is not None:
                return Finding(
                    f"{self.address} refused the password that was made for {user}", self.address.minted.refused
                )
            if sign in text:
                return Finding(message.format(place=self.address, db=self.address.db), hint)
        if isinstance(error, exceptions.ReadOnlyError):
            return READ_ONLY
        if isinstance(error, exceptions.BusyLoadingError):
            return Finding(f"{self.address} is still loading its dataset", "it answers once that is done")
        if isinstance(error, exceptions.MovedError | exceptions.AskError):
            return Finding(
                "the key lives on another node of the cluster", "watch the whole cluster: set `cluster`", mild=True
            )
        if isinstance(error, exceptions.OutOfMemoryError):
            return Finding("the server is out of memory", "raise maxmemory, or set an eviction policy")
        return Finding(f"the server said: {self._clean(text)}")

    def _clean(self, text: str) -> str:
        text = _ARGUMENTS.sub("", text)
        if self.address.password:
            text = text.replace(self.address.password, "****")
        return cut_text(text, _LONGEST)

    def _silence(self, greeted: bool) -> Finding:
        took = f"{self.patience:.3g}s"
        if greeted:
            hint = "it hangs or is busy: see SLOWLOG on the server"
            return Finding(f"{self.address} did not answer within {took}", hint)
        hint = "it hangs, or a firewall drops the packets"
        if not self.address.path:
            wrong = "does not speak TLS, set `tls: false`" if self.address.tls else "expects TLS, set `tls: true`"
            hint = f"if it {wrong}; else {hint}"
        return Finding(f"no answer from {self.address} within {took}", hint)

    def _hangup(self) -> Finding:
        hint = "it is shutting down, or a proxy is in between"
        if self.address.tls:
            hint = f"if it asks for a client certificate, set cert_file and key_file; else {hint}"
        elif not self.address.path:
            hint = f"if it expects TLS, set `tls: true`; else {hint}"
        return Finding(f"{self.address} closed the connection", hint)

    def _tls(self, error: ssl.SSLError) -> Finding:
        place = self.address
        if isinstance(error, ssl.SSLCertVerificationError):
            code, why = error.verify_code, error.verify_message
            hint = "set `ca_file` to the authority that signed it"
            if code in _EXPIRED:
                hint = "renew it on the server"
            elif code in _WRONG_NAME:
                hint = "set `host` to a name in the certificate"
            return Finding(f"the certificate of {place} is not valid: {why}", hint)
        reason = (error.reason or "").upper()
        hint = next((text for sign, text in _TLS_HINTS.items() if sign in reason), "")
        return Finding(f"no TLS connection to {place}: {reason.replace('_', ' ').lower() or 'it failed'}", hint)

    def _system(self, error: OSError) -> Finding | None:
        number = error.errno
        if number is None and (match := _ERRNO.search(str(error))):  # asyncio joins the errors of several addresses
            number = int(match[1])
        place = self.address
        if number == errno.ECONNREFUSED:
            return Finding(f"nothing listens on {place}", "is the server running, and is this its address?")
        if number == errno.ENOENT:
            return Finding(f"there is no socket {place}", "is the server running, with this `unixsocket`?")
        if number in (errno.EACCES, errno.EPERM):
            return Finding(f"no permission to connect to {place}", "see the socket's mode (`unixsocketperm`) and owner")
        if number in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return Finding(f"no route to {place}", "check the address and the network")
        return None


_REFUSALS = (
    (
        "DENIED",
        "{place} is in protected mode and takes only local connections",
        "set a password there (requirepass or an ACL user), or bind it to a private network with `protected-mode no`",
    ),
    (
        "MISCONF",
        "the server refuses commands because it cannot save its data to disk",
        "see rdb_last_bgsave_status and the server's log; mend the disk",
    ),
    (
        "Link with MASTER is down",
        "the replica has lost its primary and replica-serve-stale-data is off",
        "see the link to the primary",
    ),
    ("invalid username-password", "{place} refused the user name or the password", "check `username` and `password`"),
    ("invalid password", "{place} refused the password", "check `password`"),
    ("Authentication required", "{place} wants a password", "set `password`, and `username` with ACL users"),
    ("without any password configured", "{place} has no password, but one is configured", "leave out `password`"),
    ("DB index is out of range", "{place} has no database {db}", "check `db`"),
    ("max number of clients", "{place} has reached its limit of clients", "raise maxclients, or close idle clients"),
    ("WRONGTYPE", "the key holds another type of data", "check `read`"),
    ("not a valid HyperLogLog", "the key holds another type of data", "check `read`"),
)
"""(sign in the error's text, message, hint): the client strips some error codes, so the texts tell them apart."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from: the client keeps the system's error only as context."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        for argument in current.args:  # the client may wrap an exception as the argument of its own
            if isinstance(argument, BaseException):
                yield argument
        current = current.__cause__ or current.__context__

"""Whether the page's address can be had: for `vedette doctor`."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl

from vedette import Diagnosis
from vedette.kit import ListenOptions

_PATIENCE = 3.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask for what listens on every address


def look_at_address(options: ListenOptions, tls: bool, diagnosis: Diagnosis) -> None:
    """Bind the address for a moment; where it is taken, ask who has it. Blocking."""
    listen, (host, port) = options.listen, options.address
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE and _is_ours(_ANY.get(host, host), port, tls):
            diagnosis.ok("address", f"an agent serves its page on {listen}")
        elif error.errno == errno.EADDRINUSE:
            diagnosis.failed("address", f"another program listens on {listen}", f"`ss -ltnp sport = :{port}` shows who")
        else:
            hint = (
                "ports below 1024 are for root" if error.errno == errno.EACCES else "is it an address of this machine?"
            )
            diagnosis.failed("address", f"cannot listen on {listen}: {error.strerror}", hint)
    else:
        diagnosis.ok("address", f"{listen} is free")


def _is_ours(host: str, port: int, tls: bool) -> bool:
    """Whether what listens there is a page of this sink, or asks for its password."""
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=context)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        locked = 'realm="vedette"' in (answer.getheader("WWW-Authenticate") or "")
        return locked or b"vedette_" in answer.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

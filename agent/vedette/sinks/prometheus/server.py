"""The listener of the page: a thread a scraper, none of whom can hold it up."""

from __future__ import annotations

import io
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from vedette.kit import ListenOptions

_SILENCE = 10.0  # seconds that a scraper may stay silent
_MOST_SCRAPERS = 32

_App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def safely(app: Any, log: logging.Logger) -> _App:
    """The application, whose faults become a 500 and one line instead of a traceback."""

    def safe(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            answer: Iterable[bytes] = app(environ, start_response)
        except Exception as error:
            log.error("a scrape failed: %s: %s", type(error).__name__, error)
            log.debug("a scrape failed", exc_info=True)
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"the page cannot be made; the agent's log says why\n"]
        return answer

    return safe


def with_password(app: Any, options: ListenOptions) -> _App:
    """The WSGI application behind the options' basic authentication."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if options.admits(environ.get("HTTP_AUTHORIZATION", "")):
            answer: Iterable[bytes] = app(environ, start_response)
            return answer
        start_response("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="vedette"')])
        return [b"user name and password, please\n"]

    return guarded


class Certificate:
    """A page's TLS context, made anew when its files change: certificates are renewed while the agent runs.

    Args:
        options: the page's, which name the files.
        log: told about new files that are none; the former certificate is then kept.

    Raises:
        OSError: a file cannot be read or holds no certificate with its key.
    """

    def __init__(self, options: ListenOptions, log: logging.Logger) -> None:
        self._options = options
        self._log = log
        self._files = self._look()
        self._context = options.tls()

    def context(self) -> ssl.SSLContext | None:
        """The context for the next connection; None if the page is served without TLS."""
        files = self._look()
        if files != self._files:
            self._files = files
            try:
                self._context = self._options.tls()
            except OSError as error:  # half of a renewal, perhaps: the other half changes the files again
                self._log.warning("the former certificate is kept: %s", error.strerror or error)
            else:
                self._log.info("serving the new certificate of %s", self._options.tls_cert)
        return self._context

    def _look(self) -> list[tuple[int, int, int] | None]:
        """What tells a changed file, for each."""
        return [_stamp(path) for path in (self._options.tls_cert, self._options.tls_key) if path is not None]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class _Handler(WSGIRequestHandler):
    """One scrape. A scraper that stays silent is cut off."""

    timeout = _SILENCE

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: scrapes are no news."""

    def get_stderr(self) -> Any:
        """Where wsgiref would print the traceback of a scraper that stopped reading."""
        return io.StringIO()


class Server(ThreadingMixIn, WSGIServer):
    """Listens from construction to `stop`; each scrape has a thread.

    Args:
        address: host and port.
        app: the WSGI application.
        tls: serve https if it has a context.
        log: told about faults in the application.

    Raises:
        OSError: the address cannot be had.
    """

    daemon_threads = False  # so that `stop` waits for them; it closes their connections first
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], app: Any, tls: Certificate, log: logging.Logger) -> None:
        self._tls = tls
        self._log = log
        self._open: set[Any] = set()
        self._open_lock = threading.Lock()
        family, _, _, _, found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        super().__init__(found[:2], _Handler)  # type: ignore[arg-type]
        self.set_app(app)
        self._thread = threading.Thread(target=self.serve_forever, name="prometheus_sink", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the page is, with the real port."""
        host, port = self.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else host
        return f"{'https' if self._tls.context() else 'http'}://{shown!s}:{port}/metrics"

    def stop(self) -> None:
        """Stop listening, cut off whoever is connected, and wait for all threads."""
        self.shutdown()
        self._thread.join()
        with self._open_lock:
            for connection in self._open:
                _cut(connection)
        self.server_close()

    def server_bind(self) -> None:
        """Bind without the reverse look-up of the own name that HTTPServer makes."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        """Accept; the TLS handshake happens in the scrape's own thread, at its first read."""
        connection, address = super().get_request()
        context = self._tls.context()
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the scrape's thread, unless too many are at it."""
        with self._open_lock:
            crowded = len(self._open) >= _MOST_SCRAPERS
            if not crowded:
                self._open.add(request)
        if crowded:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close the connection at the end of its scrape."""
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that went away, stays silent or speaks no TLS is not worth a line."""
        self._log.debug("a scrape broke off", exc_info=True)


def _cut(connection: Any) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return

"""Notifier `email`: mail by way of an SMTP server, with TLS unless one says otherwise.

Sources: RFC 5321 (SMTP; 4xx is temporary, 5xx is not), RFC 3207 (STARTTLS), RFC 8314 (TLS from the first byte).
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import formataddr, getaddresses, parseaddr
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import aiosmtplib
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import Duration, Notifier, NotifierConfig, Secret, Undelivered, hookimpl
from vedette.kit import clip, delivery_id, probe_tcp, ssl_context
from vedette.notifiers.email.letter import compose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from email.message import EmailMessage

    from vedette import Alert, Diagnosis

_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_PARTING: Final = 0.5
"""Seconds for a polite end of a connection."""
_MOST: Final = 500
_AUTHENTICATION: Final = frozenset((530, 534, 535, 538))
"""RFC 4954: replies that mean the login, which may be mended."""


class EmailConfig(NotifierConfig):
    """Options of the `email` notifier."""

    host: str = Field(description="The SMTP server.", examples=["smtp.example.com"], min_length=1)
    port: int | None = Field(
        None, description="Its port. Default: 587 with `starttls`, 465 with `tls`, else 25.", ge=1, le=65535
    )
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection is encrypted; `none` only for a server on this machine."
    )
    username: str = Field("", description="Login, if the server wants one.", examples=["vedette"])
    password: Secret | None = Field(None, description="Goes with `username`.", examples=["${env:SMTP_PASSWORD}"])
    sender: str = Field(
        description="Address it comes from, with or without a name.", examples=["vedette <vedette@example.com>"]
    )
    to: tuple[str, ...] = Field(description="Whom it goes to.", min_length=1, examples=[["oncall@example.com"]])
    subject_prefix: str = Field("", description="Begins every subject.", max_length=60, examples=["[production]"])
    ca_file: Path | None = Field(None, description="Certificate authorities (PEM) to trust instead of the system's.")
    group: Duration = Field(0.0, description="Collect alerts for so long into one message.", ge=0, le=3600)

    @field_validator("to", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list | tuple):
            return value
        return tuple(one for each in given for one in (_split(each) if isinstance(each, str) else [each]))

    @field_validator("sender")
    @classmethod
    def _sender(cls, value: str) -> str:
        return _valid(value)

    @field_validator("to")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_valid, value))

    @field_validator("subject_prefix")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not value.isprintable():
            raise PydanticCustomError("vedette", "must be one line of text")
        return value.strip()

    @model_validator(mode="after")
    def _fitting(self) -> EmailConfig:
        if bool(self.username) != (self.password is not None):
            raise PydanticCustomError("vedette", "username and password go together")
        if self.username and self.security == "none" and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise PydanticCustomError("vedette", "security: none would send the password in the clear")
        return self

    @property
    def where(self) -> int:
        """The port in force."""
        return self.port or _PORTS[self.security]


def _split(text: str) -> list[str]:
    """The addresses of a list as people write it into a mail, `a@example.com, B <b@example.com>`."""
    found = getaddresses([text])
    return [formataddr(one, charset="utf-8") for one in found] if len(found) > 1 and text.isprintable() else [text]


def _valid(text: str) -> str:
    address = parseaddr(text)[1]
    if len(getaddresses([text])) != 1 or not text.isprintable() or not _ADDRESS.fullmatch(address) or ".." in address:
        raise PydanticCustomError("vedette", "must be an address such as oncall@example.com")
    return text


class Email(Notifier[EmailConfig]):
    """Sends alerts by mail, as text and HTML with a plot; all mails of an incident are one thread."""

    name = "email"

    def __init__(self, config: EmailConfig) -> None:
        super().__init__(config)
        self.window = config.group

    async def send(self, alert: Alert) -> str:
        """One mail for one alert."""
        return await self.send_all([alert])

    async def send_all(self, alerts: Sequence[Alert]) -> str:
        """One mail for several alerts; whoever was refused for a moment gets it with the next attempt, and alone."""
        answer, later = "taken before", ""
        parts = self._outstanding(alerts)
        for left, some in parts.items():
            answer, refused = await self._mail(some, left)
            for one in some if refused or len(parts) > 1 else ():
                self.memory[delivery_id(one)] = sorted({*self._reached(one), *left} - refused.keys())
            later = later or next((f"refuses some recipients for now ({code})" for code in refused.values()), "")
        if later:
            raise Undelivered(f"the SMTP server {later}")
        for one in alerts:
            self.memory.pop(delivery_id(one), None)
        return answer

    def _outstanding(self, alerts: Sequence[Alert]) -> dict[tuple[str, ...], list[Alert]]:
        """Recipients who lack something, and what it is: all lack all, but after an attempt that failed for some."""
        found: dict[tuple[str, ...], list[Alert]] = {}
        for alert in alerts:
            reached = self._reached(alert)
            left = tuple(one for one in self.config.to if parseaddr(one)[1] not in reached)
            if left:
                found.setdefault(tuple(parseaddr(one)[1] for one in left), []).append(alert)
        return found

    def _reached(self, alert: Alert) -> list[str]:
        while len(self.memory) > _MOST:  # of what was given up
            del self.memory[next(iter(self.memory))]
        return list(self.memory.get(delivery_id(alert), ()))

    async def _mail(self, alerts: Sequence[Alert], to: Sequence[str]) -> tuple[str, dict[str, int]]:
        """Send one mail.

        Returns:
            What the server says, and who was refused for a moment, with the code.
        """
        config, first = self.config, not any(map(self._reached, alerts))
        domain = parseaddr(config.sender)[1].rpartition("@")[2]
        mail = compose(alerts, config.sender, config.to, datetime.now(UTC), domain, config.subject_prefix)
        try:
            refused, answer = await self._deliver(mail, to)
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [one.code for one in error.recipients]
            if first or any(code < 500 for code in codes):  # else the others have it, and these never will
                raise Undelivered(f"the SMTP server refuses all recipients ({codes[0]})") from None
            self._note_refused(codes)
            return "taken before", {}
        except aiosmtplib.SMTPResponseException as error:
            raise _answered(error) from None
        except (aiosmtplib.SMTPTimeoutError, TimeoutError):
            raise Undelivered(f"the SMTP server does not answer within {config.timeout:g}s") from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise Undelivered(f"the SMTP server: {_in_words(error)}") from None
        self._note_refused([one.code for one in refused.values() if one.code >= 500])
        later = {address: one.code for address, one in refused.items() if one.code < 500}
        return clip(" ".join(answer.split()), 200), later

    def _note_refused(self, codes: list[int]) -> None:
        number = f"{len(codes)} of {len(self.config.to)} recipients"
        self.trouble = f"the SMTP server refuses {number} ({codes[0]})" if codes else ""

    async def _deliver(self, mail: EmailMessage, to: Sequence[str]) -> tuple[dict[str, aiosmtplib.SMTPResponse], str]:
        config, client = self.config, self._client()
        try:
            async with asyncio.timeout(config.timeout):
                await client.connect()
                if config.username and config.password is not None:
                    await client.login(config.username, config.password.reveal())
                taken = await client.send_message(mail, sender=parseaddr(config.sender)[1], recipients=list(to))
            with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):  # it was taken, whatever comes of this
                async with asyncio.timeout(_PARTING):
                    await client.quit()
            return taken
        finally:
            client.close()

    def _client(self) -> aiosmtplib.SMTP:
        config = self.config
        context = ssl_context(ca_file=config.ca_file) if config.security != "none" else None
        return aiosmtplib.SMTP(
            hostname=config.host,
            port=config.where,
            use_tls=config.security == "tls",
            start_tls=config.security == "starttls",
            tls_context=context,
            timeout=config.timeout,
            local_hostname=socket.gethostname() or "localhost",
        )

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Look without telling anybody."""
        config = self.config
        if not await probe_tcp(diagnosis, config.host, config.where, 3.0):
            return
        if config.security == "none" and config.host not in ("localhost", "127.0.0.1", "::1"):
            diagnosis.warning("TLS", "mails travel in the clear", "set `security: starttls`")
        try:
            async with asyncio.timeout(6.0), self._client() as client:
                diagnosis.ok("SMTP", "the server answers" + ("" if config.security == "none" else ", TLS is good"))
                if config.username and config.password is not None:
                    await client.login(config.username, config.password.reveal())
                    diagnosis.ok("login", "is accepted")
        except aiosmtplib.SMTPAuthenticationError as error:
            diagnosis.failed("login", f"is refused ({error.code})", "see username and password")
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            diagnosis.failed("SMTP", _in_words(error), "see security, port and ca_file")


def _answered(error: aiosmtplib.SMTPResponseException) -> Undelivered:
    """What it says; a verdict on the message, which time will not mend, is only what it answers to the message."""
    if error.code in _AUTHENTICATION:
        return Undelivered(f"the SMTP server refuses the login ({error.code})", hint="see username and password")
    said = clip(" ".join(error.message.split()), 160)
    return Undelivered(
        f"the SMTP server answered {error.code}: {said}",
        again=not isinstance(error, aiosmtplib.SMTPDataError) or error.code < 500,
    )


def _in_words(error: BaseException) -> str:
    cause = error.__cause__ or error
    text = f"{error} {cause}"
    if isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not valid"
    if isinstance(cause, ssl.SSLError) or "SSL" in text:
        return "TLS failed"
    if "STARTTLS" in text:
        return "it does not offer STARTTLS"
    if isinstance(cause, socket.gaierror):
        return "its name does not resolve"
    if isinstance(cause, ConnectionRefusedError) or "refused" in text.lower() or "Connect call failed" in text:
        return "nothing takes connections there"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"the connection failed ({type(error).__name__})"


@hookimpl
def register_notifiers(register: Callable[[type[Email]], None]) -> None:
    """Give the agent this notifier."""
    register(Email)

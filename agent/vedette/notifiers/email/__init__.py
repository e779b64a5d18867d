"""Notifier `email`: mail by way of an SMTP server, with TLS unless one says otherwise.

Sources: RFC 5321 (SMTP; 4xx is temporary, 5xx is not), RFC 3207 (STARTTLS), RFC 8314 (TLS from the first byte).
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from datetime import UTC, datetime
from email.utils import parseaddr
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import aiosmtplib
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import Duration, Notifier, NotifierConfig, Secret, Undelivered, hookimpl
from vedette.kit import clip, probe_tcp, ssl_context
from vedette.notifiers.email.letter import compose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from email.message import EmailMessage

    from vedette import Alert, Diagnosis

_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
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
        return (value,) if isinstance(value, str) else value

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


def _valid(text: str) -> str:
    address = parseaddr(text)[1]
    if not text.isprintable() or not _ADDRESS.fullmatch(address) or ".." in address:
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
        """One mail for several alerts."""
        domain = parseaddr(self.config.sender)[1].rpartition("@")[2]
        now, config = datetime.now(UTC), self.config
        mail = compose(alerts, config.sender, config.to, now, domain, config.subject_prefix)
        try:
            refused, answer = await self._deliver(mail)
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [one.code for one in error.recipients]
            raise Undelivered(
                f"the SMTP server refuses all recipients ({codes[0]})", again=any(code < 500 for code in codes)
            ) from None
        except aiosmtplib.SMTPResponseException as error:
            raise _answered(error) from None
        except (aiosmtplib.SMTPTimeoutError, TimeoutError):
            raise Undelivered(f"the SMTP server does not answer within {config.timeout:g}s") from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise Undelivered(f"the SMTP server: {_in_words(error)}") from None
        if refused:
            self.log.warning("the SMTP server refuses %d of %d recipients", len(refused), len(config.to))
        return clip(" ".join(answer.split()), 200)

    async def _deliver(self, mail: EmailMessage) -> tuple[dict[str, aiosmtplib.SMTPResponse], str]:
        config = self.config
        async with asyncio.timeout(config.timeout), self._client() as client:
            if config.username and config.password is not None:
                await client.login(config.username, config.password.reveal())
            return await client.send_message(
                mail, sender=parseaddr(config.sender)[1], recipients=[parseaddr(one)[1] for one in config.to]
            )

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
    if error.code in _AUTHENTICATION:
        return Undelivered(f"the SMTP server refuses the login ({error.code})", hint="see username and password")
    said = clip(" ".join(error.message.split()), 160)
    return Undelivered(f"the SMTP server answered {error.code}: {said}", again=error.code < 500)


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

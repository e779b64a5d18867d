"""Mail through a real SMTP server (aiosmtpd) with STARTTLS, TLS and login."""

from __future__ import annotations

import asyncio
import email
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from pydantic import ValidationError

from listening import ending, listening
from notifiers.receivers import alert
from notifiers.test_http import huge
from servers import Certificates, free_port
from vedette import Undelivered
from vedette.notifiers.email import Email, EmailConfig
from vedette.notifiers.email.letter import compose
from vedette.notifiers.email.plot import HEIGHT, WIDTH, plot

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 9, 21, 14, 14, tzinfo=UTC)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("tls"))


class Inbox:
    """What arrived, and what is said to whoever comes."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.answers: list[str] = []
        self.port = 0
        self.grey = 0
        self.hangs = False

    async def handle_QUIT(self, server: Any, session: Any, envelope: Envelope) -> str:
        if self.hangs:
            await asyncio.sleep(60)
        return "221 bye"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: Any) -> str:
        if address.startswith("nobody"):
            return "550 no such user"
        if address.startswith("grey") and self.grey:
            self.grey -= 1
            return "450 greylisted, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        if self.answers:
            return self.answers.pop(0)
        assert isinstance(envelope.content, bytes)
        self.envelopes.append(envelope)
        self.mails.append(email.message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return "250 queued as 42"


@asynccontextmanager
async def smtp(files: Certificates, way: str) -> AsyncIterator[Inbox]:
    inbox, context = Inbox(), files.server_side()

    def auth(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"vedette", b"hunter2secret")
        return AuthResult(success=good, handled=False)

    def make() -> SMTP:
        options: dict[str, Any] = {"hostname": "mail.test"}
        if way == "starttls":
            options |= {"tls_context": context, "require_starttls": True, "authenticator": auth, "auth_required": True}
        return SMTP(inbox, **options)

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, ssl=context if way == "tls" else None)
    async with ending(server) as inbox.port:
        yield inbox


def mailer(inbox: Inbox, files: Certificates, **options: Any) -> Email:
    made = {"type": "email", "host": "127.0.0.1", "port": inbox.port, "ca_file": files.ca, "to": ["oncall@example.com"],
            "sender": "vedette <vedette@example.com>", **options}  # fmt: skip
    return Email(EmailConfig(**made))


LOGIN = {"username": "vedette", "password": "hunter2secret"}


async def test_starttls_login_and_a_thread_for_each_incident(files: Certificates) -> None:
    async with smtp(files, "starttls") as inbox:
        notifier = mailer(inbox, files, to=["Ops <ops@example.com>", "oncall@example.com"], **LOGIN)
        for one in (
            alert(),
            alert(reminder=True, at=1.79e9 + 300),
            alert("resolved", at=1.79e9 + 600),
            alert(key="other"),
        ):
            assert "queued as 42" in await notifier.send(one)
    first, reminder, resolved, other = inbox.mails
    assert inbox.envelopes[0].rcpt_tos == ["ops@example.com", "oncall@example.com"]
    assert inbox.envelopes[0].mail_from == "vedette@example.com"
    assert first["Subject"] == "[CRITICAL] payments flow down"
    assert {str(reminder["Subject"]), str(resolved["Subject"])} == {"Re: [CRITICAL] payments flow down"}
    assert first["In-Reply-To"] is None
    for one in (reminder, resolved):
        assert (one["In-Reply-To"], one["References"]) == (first["Message-ID"], first["Message-ID"])
    assert len({one["Message-ID"] for one in inbox.mails}) == 4
    assert (first["Auto-Submitted"], resolved["X-Vedette-State"]) == ("auto-generated", "resolved")
    text = resolved.get_body(("plain",))
    assert text is not None
    assert text.get_content().splitlines()[:6] == [
        "RESOLVED: payments flow down",
        "Nobody can pay.",
        "",
        "Severity: critical",
        "Was firing since: 2026-09-21 14:13:20 UTC, for 10m, until 2026-09-21 14:23:20 UTC",
        "Instance: synthetic/payment-flow",
    ]
    assert other["Message-ID"] != first["Message-ID"]


async def test_tls_from_the_first_byte_and_a_group_in_one_mail(files: Certificates) -> None:
    async with smtp(files, "tls") as inbox:
        await mailer(inbox, files, security="tls", group=30).send_all(
            [alert(key="a", rule="a"), alert(key="b", rule="b")]
        )
    (mail,) = inbox.mails
    assert mail["Subject"] == "2 firing: a and 1 more"
    assert len(str(mail["References"]).split()) == 2
    assert sorted(part["Content-ID"] for part in mail.walk() if part["Content-ID"]) == ["<plot0>", "<plot1>"]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def html_of(mail: EmailMessage) -> Tags:
    body = mail.get_body(("html",))
    assert body is not None
    tags = Tags()
    tags.feed(body.get_content())
    assert tags.open == []
    return tags


def test_html_shows_the_evidence_with_an_inline_plot_and_nothing_from_elsewhere() -> None:
    mail = compose([alert()], "v@example.com", ["a@example.com"], NOW, "example.com")
    tags = html_of(mail)
    (image,) = [options for tag, options in tags.seen if tag == "img"]
    assert image["src"] == "cid:plot0"
    assert image["alt"] == "last 94.95 %, 94.95 to 99, threshold 97 %"
    assert "step 'pay' answered 503 & <nothing> else" in tags.words
    assert [options["href"] for tag, options in tags.seen if tag == "a"] == [
        "https://wiki.example.com/payments", "https://grafana.example.com/d/pay", "https://img.example.com/pay.png"
    ]  # fmt: skip
    (picture,) = [part for part in mail.walk() if part.get_content_type() == "image/png"]
    assert picture.get_content_disposition() == "inline"
    assert len(mail.as_bytes()) < 12_000
    evil = html_of(compose([huge()], "v@example.com", ["a@example.com"], NOW, "example.com"))
    assert not {tag for tag, _ in evil.seen} & {"script", "b", "link", "iframe"}


def pixels(data: bytes) -> list[list[tuple[int, int, int]]]:
    """The PNG's rows, read by the specification."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, body = 8, b""
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, part = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + part),)
        body += part if kind == b"IDAT" else b""
        at += 12 + size
    raw = zlib.decompress(body)
    rows = [raw[n * (1 + 3 * WIDTH) :][: 1 + 3 * WIDTH] for n in range(HEIGHT)]
    assert {row[0] for row in rows} == {0}
    return [[tuple(row[1 + 3 * x : 4 + 3 * x]) for x in range(WIDTH)] for row in rows]  # type: ignore[misc]


def test_the_plot_is_a_png_that_rises_where_values_rise() -> None:
    ink, limit = (0x1F, 0x6F, 0xEB), (0xD1, 0x24, 0x2F)
    rows = pixels(plot([(0.0, 0.0), (50.0, 10.0), (100.0, 10.0)], 5.0))
    tops = [next(y for y in range(HEIGHT) if rows[y][x] == ink) for x in range(WIDTH)]
    assert (tops[0] > 105, tops[WIDTH // 2] < 10, tops[-1] < 10) == (True, True, True)
    assert all(after <= before for before, after in pairwise(tops))
    assert 55 < next(y for y in range(HEIGHT) if limit in rows[y]) < 65
    assert plot([(0.0, 1.0)]) == b""
    assert len(pixels(plot([(5.0, 1.0), (5.0, float("nan")), (5.0, 1.0)]))) == HEIGHT


async def test_what_smtp_servers_refuse(files: Certificates) -> None:
    async with smtp(files, "starttls") as inbox:
        wrong = mailer(inbox, files, username="vedette", password="wrong-one")
        with pytest.raises(Undelivered) as caught:
            await wrong.send(alert())
        assert (str(caught.value), caught.value.again) == ("the SMTP server refuses the login (535)", True)
        good = mailer(inbox, files, **LOGIN)
        inbox.answers += ["451 try later", "554 spam"]
        for message, again in (("answered 451: try later", True), ("answered 554: spam", False)):
            with pytest.raises(Undelivered) as caught:
                await good.send(alert())
            assert (str(caught.value), caught.value.again) == (f"the SMTP server {message}", again)
        with pytest.raises(Undelivered) as caught:
            await mailer(inbox, files, to=["nobody@example.com"], **LOGIN).send(alert())
        assert (str(caught.value), caught.value.again) == (
            "the SMTP server refuses all recipients (550)",
            True,
        )  # relaying may be allowed by and by
        with pytest.raises(Undelivered, match="its certificate is not valid"):
            await mailer(inbox, files, ca_file=None, **LOGIN).send(alert())
    async with smtp(files, "none") as plain:
        with pytest.raises(Undelivered, match="it does not offer STARTTLS"):
            await mailer(plain, files).send(alert())
        await mailer(plain, files, security="none").send(alert())
        assert len(plain.mails) == 1
    plain.port = free_port()
    with pytest.raises(Undelivered, match=r"^the SMTP server: nothing takes connections there$"):
        await mailer(plain, files).send(alert())


async def test_whoever_is_refused_for_a_moment_gets_it_later_and_nobody_twice(files: Certificates) -> None:
    async with smtp(files, "none") as inbox:
        inbox.grey = 2
        to = ["Team <team@example.com>", "grey@example.com", "nobody@example.com"]
        notifier = mailer(inbox, files, security="none", to=to)
        for _ in range(2):
            with pytest.raises(Undelivered, match=r"\(450\)$"):
                await notifier.send(alert())
        await notifier.send_all([alert(), alert(key="b")])
        assert [one.rcpt_tos for one in inbox.envelopes] == [
            ["team@example.com"], ["grey@example.com"], ["team@example.com", "grey@example.com"]
        ]  # fmt: skip
        assert notifier.trouble == "the SMTP server refuses 1 of 3 recipients (550)"
        assert notifier.memory == {}
        await mailer(inbox, files, security="none", to="a@example.com, B <b@example.com>").send(alert())
        assert inbox.envelopes[-1].rcpt_tos == ["a@example.com", "b@example.com"]


async def test_a_mail_that_was_taken_is_taken_though_the_server_hangs_at_the_end(files: Certificates) -> None:
    async with smtp(files, "none") as inbox:
        inbox.hangs = True
        assert "queued as 42" in await mailer(inbox, files, security="none", timeout=5).send(alert())
        assert len(inbox.mails) == 1


async def test_a_server_that_takes_nobody_now_may_take_the_mail_tomorrow(files: Certificates) -> None:
    async def closed(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"554 no service for you\r\n")

    inbox = Inbox()
    async with listening(closed) as inbox.port:
        with pytest.raises(Undelivered) as caught:
            await mailer(inbox, files, security="none").send(alert())
        assert (str(caught.value)[:29], caught.value.again) == ("the SMTP server answered 554:", True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": ["oncall"]}, "must be an address such as oncall@example.com"),
        ({"to": ["a@example.com\nBcc: b@example.com"]}, "must be an address such as oncall@example.com"),
        ({"to": "a@b..com"}, "must be an address such as oncall@example.com"),
        ({"to": ["a@example.com, b"]}, "must be an address such as oncall@example.com"),
        ({"sender": "a@example.com, b@example.com"}, "must be an address such as oncall@example.com"),
        ({"sender": "<>"}, "must be an address such as oncall@example.com"),
        ({"username": "x"}, "username and password go together"),
        ({"security": "none", **LOGIN}, "security: none would send the password in the clear"),
        ({"subject_prefix": "a\r\nb"}, "must be one line of text"),
    ],
)
def test_mistakes(options: dict[str, Any], said: str) -> None:
    good = {"type": "email", "host": "smtp.example.com", "sender": "v@example.com", "to": ["a@example.com"]}
    EmailConfig(**good)
    with pytest.raises(ValidationError) as caught:
        EmailConfig(**{**good, **options})
    assert [error["msg"] for error in caught.value.errors()] == [said]

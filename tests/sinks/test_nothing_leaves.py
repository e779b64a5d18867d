"""Keys, passwords, tokens and card numbers, planted everywhere, show in nothing that an agent writes or sends."""

from __future__ import annotations

import asyncio
import signal
import socket
import sqlite3
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from checks.log_file.plants import CARDS, CONFIGURED, SECRETS, lines, shown
from cli.process import COMMAND, environ
from listening import listening
from notifiers.receivers import Receiver, receiving
from servers import free_port
from sinks.intake import APP_KEY, KEY, Intake, intake
from sinks.parts import until
from sinks.test_outage import install
from vedette.kit import Spool
from vedette.sinks.datadog.press import unpack

pytestmark = pytest.mark.anyio

PASSWORDS = {
    "DSN_PASSWORD": "dsn-hunter2secret",
    "PROXY_PASSWORD": "proxy%2Fhunter2secret",
    "OTHER_PROXY_PASSWORD": "other-proxy-hunter2",
    "ENV_PROXY_PASSWORD": "env-proxy-hunter2",
    "OTHER_KEY": "ffffeeeeddddccccbbbbaaaa99998888",
    "TOKEN": CONFIGURED,
}
KNOWN = [KEY, APP_KEY, *PASSWORDS.values(), "proxy/hunter2secret"]
PAID = ("6011111111111117", "3566-0020-2036-0505", "3782 822463 10005", "378282246310005", "3566002020360505")
"""Card numbers that no file's name has, as they are said."""
_BLABS = (
    '''
import threading
import warnings
from vedette import Check, CheckConfig, Kind, Metric, Secret, Status, hookimpl

class Options(CheckConfig):
    password: Secret | None = None
    token: Secret | None = None

class Blabs(Check[Options]):
    """Says its password wherever it can."""
    name = "blabs"
    metrics = (Metric("blabs.level", Kind.GAUGE), Metric("blabs.who", Kind.SET))
    statuses = ("blabs.ok",)

    async def run(self, emit):
        password = self.config.password.reveal()
        said = f"login with {password} and {self.config.token.reveal()} refused: "
        said += f"(card)=({CARDS[0]}), {CARDS[1]}, {CARDS[2]}."
        dsn = f"postgresql://u:{password}@h/d"
        emit.gauge("blabs.level", 1, tags=[f"dsn:{dsn}", *(f"card:{card}" for card in CARDS)])
        emit.set("blabs.who", dsn)
        for card in CARDS:
            emit.set("blabs.who", card)
        emit.status("blabs.ok", Status.CRITICAL, said, tags=[f"dsn:{dsn}"])
        emit.event(said, said, aggregation_key=said, tags=[f"dsn:{dsn}"])
        detail = {"dsn": dsn, "list": [said, float(CARDS[3])], said: int(CARDS[0])}
        emit.log(said, detail=detail, tags=[f"dsn:{dsn}"])
        self.log.warning("%s", said)
        try:
            raise ValueError(said)
        except ValueError:
            self.log.exception("it failed")
        threading.Thread(target=self.crash, args=(said,)).start()
        warnings.warn(said)
        Falls.said = said
        Falls()
        raise RuntimeError(said)

    def crash(self, said):
        raise RuntimeError(said)

    async def diagnose(self, diagnosis):
        raise RuntimeError(self.config.password.reveal())

    @classmethod
    def lint(cls, config):
        yield f"the password {config.password.reveal()} of {CARDS[1]} is short"

class Falls:
    def __del__(self):
        raise RuntimeError(self.said)

@hookimpl
def register_checks(register):
    register(Blabs)
'''
    + f"CARDS = {PAID!r}\n"
)
_FROM_AN_APPLICATION = "".join(
    line.format(card=card, length=len(card))
    for card in PAID
    for line in (
        "_e{{{length},{length}}}:{card}|{card}|k:{card}|#card:{card}\n",
        "_sc|app.ok|2|#card:{card}|m:{card} was refused\n",
        "app.cards:{card}|s|#card:{card}\napp.paid:1|c|#card:{card},path:/cards/{card}/pay\n",
    )
)
"""Events, service checks and metrics as DogStatsD has them."""


IN_NAMES = {CARDS["visa"], CARDS["mastercard"], SECRETS["password"]}
"""What is planted in the names of files."""


@asynccontextmanager
async def quoting() -> AsyncIterator[int]:
    """The port of a Redis that answers whatever it is asked with an error that names a key of its own."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.read(4096):
            writer.write(f"-ERR card:{PAID[0]} is locked by {PAID[1]}\r\n".encode() * asked.count(b"*"))

    async with listening(answer) as port:
        yield port


def configure_sources(folder: Path, redis: int) -> None:
    """Where card numbers come from that are in no file: errors of databases, and what applications send."""
    conf = folder / "conf.d"
    with sqlite3.connect(conf / "shop.db") as database:
        database.execute("CREATE VIRTUAL TABLE found USING fts5(note)")
        database.execute("CREATE TABLE asked (what)")
        database.execute("INSERT INTO asked VALUES (?)", (f"{PAID[0]} : a",))
    database.close()
    (conf / "business_sql.yaml").write_text("""
instances:
  - name: shop
    interval: 1s
    url: sqlite+aiosqlite:///shop.db
    queries:
      - sql: SELECT count(*) AS n FROM found WHERE found MATCH (SELECT what FROM asked)
        columns: {n: {metric: shop.found}}
""")
    (conf / "redis.yaml").write_text(f"instances: [{{name: cache, host: 127.0.0.1, port: {redis}, interval: 1s}}]\n")
    (conf / "statsd.yaml").write_text(
        f"instances: [{{name: apps, listen: null, socket: '{folder}/apps.sock', interval: 1s}}]\n"
    )


def configure(folder: Path, url: str, hook: str = "http://127.0.0.1:1", page: int = 0) -> None:
    conf = folder / "conf.d"
    conf.mkdir()
    (conf / "app.key").write_text(f"{APP_KEY}\n")
    (conf / "agent.yaml").write_text(f"""
log: {{level: debug}}
http: {{listen: "127.0.0.1:{page}"}}
notifiers: [{{type: webhook, name: hook, url: "{hook}/hook"}}]
sinks:
  - type: datadog
    api_key: "${{env:DD_API_KEY}}"
    app_key: "${{file:app.key}}"
    base_url: {url}
    proxy: "http://agent:{PASSWORDS["PROXY_PASSWORD"]}@127.0.0.1:1"
    no_proxy: [127.0.0.1]
    flush: 100ms
    timeout: 1s
  - type: datadog
    name: other
    api_key: {PASSWORDS["OTHER_KEY"]}
    base_url: http://intake.invalid
    proxy: "http://agent:${{env:OTHER_PROXY_PASSWORD}}@127.0.0.1:{free_port()}"
    flush: 100ms
    timeout: 1s
  - type: datadog
    name: third
    api_key: "${{env:DD_API_KEY}}"
    base_url: http://intake.invalid
    flush: 100ms
    timeout: 1s
  - {{type: file, path: ../out.jsonl}}
  - type: console
""")
    (conf / "blabs.yaml").write_text(
        'instances: [{name: main, interval: 1s, password: "${env:DSN_PASSWORD}", token: "${env:TOKEN}"}]\n'
        "alerts: [{name: it blabs, when: status(blabs/main) == critical},"
        " {name: it says so, when: status(blabs.ok) == critical}]\n"
    )
    (conf / "log_file.yaml").write_text(
        f"instances: [{{name: app, paths: ['{folder}/log/*.log'], start_position: beginning, poll: 50ms,"
        " interval: 1s, timeout: 2s}]\n"
    )


def plant(folder: Path) -> None:
    logs = folder / "log"
    logs.mkdir()
    configured = [one for one in KNOWN if one != PASSWORDS["ENV_PROXY_PASSWORD"]]
    known = [text.replace("it", one) for one in configured for text in ("the key it is there", '{"deep": [["it"]]}')]
    (logs / "app.log").write_text("".join(f"{line}\n" for line in [*lines(), *known, "the end"]))
    for name in (f"card-{CARDS['visa']}.log", f"password={SECRETS['password']}.log"):
        (logs / name).write_text("one line\n")
    (logs / f"unreadable-{CARDS['mastercard']}.log").symlink_to("/proc/self/mem")  # opens, and cannot be read


class Site:
    """The agent and the commands in a folder; keeps what they print."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environ = environ(
            folder / "state",
            PYTHONPATH=install(folder, "blabs", _BLABS),
            DD_API_KEY=KEY,
            http_proxy=f"http://agent:{PASSWORDS['ENV_PROXY_PASSWORD']}@127.0.0.1:1",
            no_proxy="127.0.0.1",
            **PASSWORDS,
        )
        self.printed: dict[str, bytes] = {}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *COMMAND, *arguments, cwd=self._folder, env=self._environ, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )

    async def command(self, *arguments: str) -> None:
        process = await self.start(*arguments)
        self.printed[" ".join(arguments)], _ = await process.communicate()


async def until_said(there: Intake, told: Receiver, folder: Path) -> None:
    """Wait until everything has come once and then, in an answer that repeats the key, was refused."""
    await until((folder / "apps.sock").exists, "a listener", 60)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as application:
        application.connect(str(folder / "apps.sock"))
        application.send(_FROM_AN_APPLICATION.encode())
    await until(lambda: {"it blabs", "it says so"} <= rules_of(told), "alerts", 60)
    await until(lambda: has_all(there), "one of each", 60)
    there.keys.clear()
    wanted = {("/api/v1/events", 403), ("/api/v2/series", 403)}
    await until(lambda: wanted <= set(there.statuses), "refusals", 60)
    await until(lambda: b"RuntimeError" in (folder / "agent.log").read_bytes(), "a crash", 60)


def has_all(there: Intake) -> bool:
    return (
        all(there.bodies(path) for path in ("events", "check_run", "series"))
        and any(log["message"] == "the end" for body in there.bodies("logs") for log in body)
        and any(one["check"] == "app.ok" for body in there.bodies("check_run") for one in body)
    )


def rules_of(told: Receiver) -> set[str]:
    return {alert["rule"] for body in told.bodies for alert in body["alerts"]}


async def pages(port: int) -> dict[str, bytes]:
    """What a browser is shown."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        paths = ("/", "/api/status", "/metrics", *(f"/instance/{one}" for one in ("blabs/main", "redis/cache")))
        return {path: (await client.get(path)).raise_for_status().content for path in paths}


def everything_in(folder: Path) -> dict[str, bytes]:
    written = {}
    for path in folder.rglob("*"):
        if path.is_file() and not {"conf.d", "log", "site"}.intersection(path.parts):
            written[str(path)] = path.read_bytes()
            if path.name.endswith(".tar.gz"):
                with tarfile.open(path) as archive:
                    for member in archive.getmembers():
                        if (file := archive.extractfile(member)) is not None:
                            written[f"{path}/{member.name}"] = file.read()
    return written


def records_in(folder: Path) -> dict[str, bytes]:
    """What waits in the queues on disk, without its compression."""
    found = {}
    for queue in ("datadog", "other", "third"):
        spool = Spool(folder / "state" / "spool" / queue, 10**9)
        spool.open()
        try:
            for records in spool.pending.values():
                for number, record in enumerate(records):
                    found[f"{queue} {record.kind} {number}"] = unpack(record.form, spool.read(record), record.raw)
        finally:
            spool.close()
    return found


def plants_in(text: str) -> set[str]:
    return {*shown(text), *(one for one in (*KNOWN, *CARDS.values(), *PAID) if one in text)}


async def search(folder: Path, *commands: str) -> None:
    """Have an agent and the commands do what they do, and search everything."""
    site = Site(folder)
    plant(folder)
    page = free_port()
    async with intake() as there, receiving() as told, quoting() as redis:
        configure(folder, there.url, told.url, page)
        configure_sources(folder, redis)
        log = (folder / "agent.log").open("wb")
        agent = await asyncio.create_subprocess_exec(
            *COMMAND, "run", cwd=folder, env=site._environ, stdout=log, stderr=log
        )
        try:
            await until_said(there, told, folder)
            shown_pages = await pages(page)
            for command in commands:
                await site.command(*command.split())
            agent.send_signal(signal.SIGTERM)
            await agent.wait()
        finally:
            log.close()
            if agent.returncode is None:
                agent.kill()
                await agent.wait()
    records = records_in(folder)
    written = everything_in(folder) | records | site.printed | shown_pages
    written |= {f"alert {number}": raw for number, raw in enumerate(told.raw)}
    written |= {f"payload {number}": raw for number, raw in enumerate(there.raw_seen)}
    assert len([name for name in records if name.startswith("datadog")]) > 1
    assert len([name for name in records if name.startswith("other")]) > 5
    assert all(site.printed.values())
    found = {name: some for name, data in written.items() if (some := plants_in(data.decode("latin-1")))}
    for command in ("check log_file", "check log_file --json"):  # it reads log_file.yaml, and no other file's secrets
        if some := found.pop(command, set()) - {*KNOWN}:
            found[command] = some
    in_state = found.pop(str(folder / "state" / "state.db"), set())
    assert in_state <= IN_NAMES  # where it stands in which file
    assert found == {}
    said = b"".join(written.values())
    assert b"login with **** and **** refused: (card)=(****), ****, ****." in said
    assert b"card:**** is locked by ****" in b"".join(shown_pages.values())
    assert b"no such column: ****" in shown_pages["/api/status"]
    assert b"**** was refused" in said
    assert b"refused: (card)=(****)" in b"".join(told.raw)
    place = there.url.removeprefix("http://").encode()
    assert not any(place in data for name, data in written.items() if "/spool/" in name or name in records)


async def test_no_secret_is_written_anywhere(tmp_path: Path) -> None:
    await search(tmp_path, "status --json")


@pytest.mark.soak
async def test_no_secret_is_in_what_the_commands_say(tmp_path: Path) -> None:
    await search(
        tmp_path, "status", "status --json", "doctor", "doctor --json", "plan", "plan --json", "validate",
        "check blabs", "check blabs --json", "check log_file", "check log_file --json", "bundle", "reload",
        "run-now blabs/main",
    )  # fmt: skip


@pytest.mark.soak
@pytest.mark.parametrize(
    "text",
    [
        "sinks: [{{type: datadog, api_key: {key}, site: {key}}}]",
        "sinks: [{{type: datadog, api_key: {key}, proxy: 'socks9://u:{password}@h:1'}}]",
        "sinks: [{{type: datadog, api_key: {key}, base_url: 'https://u:{password}@h'}}]",
        "sinks: [{{type: datadog, api_key: {key}, app_kee: {key}, flush: '{password}'}}]",
        "sinks: [{{type: datadog, api_key: [{key}], disk: '{password}'}}]",
        "sinks: [{{type: datadog, api_key: '{key} \u00e4', late: {{max_age: '{password}'}}}}]",
        "sinks: [{{type: datadog, api_key: '{key}\n",
    ],
)
async def test_no_secret_is_in_what_is_said_of_a_wrong_configuration(tmp_path: Path, text: str) -> None:
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "agent.yaml").write_text(text.format(key=KEY, password=PASSWORDS["DSN_PASSWORD"]))
    (conf / "blabs.yaml").write_text('instances: [{name: main, password: "${env:DSN_PASSWORD}", token: ab}]\n')
    site = Site(tmp_path)
    for command in ("validate", "run", "doctor", "plan"):
        await site.command(*command.split())
    for command, said in site.printed.items():
        assert b"agent.yaml:" in said, (command, said)
        assert b"Traceback" not in said
        assert plants_in(said.decode()) == set(), command

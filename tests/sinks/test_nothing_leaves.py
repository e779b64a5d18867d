"""Keys, passwords, tokens and card numbers, planted everywhere, show in nothing that an agent writes or sends."""

from __future__ import annotations

import asyncio
import signal
import tarfile
from pathlib import Path

import pytest

from checks.log_file.plants import CARDS, CONFIGURED, SECRETS, lines, shown
from cli.process import COMMAND, environ
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
_BLABS = '''
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
        said = f"login with {password} and {self.config.token.reveal()} refused"
        dsn = f"postgresql://u:{password}@h/d"
        emit.gauge("blabs.level", 1, tags=[f"dsn:{dsn}"])
        emit.set("blabs.who", dsn)
        emit.status("blabs.ok", Status.CRITICAL, said, tags=[f"dsn:{dsn}"])
        emit.event(said, said, aggregation_key=said, tags=[f"dsn:{dsn}"])
        emit.log(said, detail={"dsn": dsn, "list": [said], said: 1}, tags=[f"dsn:{dsn}"])
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
        yield f"the password {config.password.reveal()} is short"

class Falls:
    def __del__(self):
        raise RuntimeError(self.said)

@hookimpl
def register_checks(register):
    register(Blabs)
'''


IN_NAMES = {CARDS["visa"], CARDS["mastercard"], SECRETS["password"]}
"""What is planted in the names of files."""


def configure(folder: Path, url: str) -> None:
    conf = folder / "conf.d"
    conf.mkdir()
    (conf / "app.key").write_text(f"{APP_KEY}\n")
    (conf / "agent.yaml").write_text(f"""
log: {{level: debug}}
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


async def until_said(there: Intake, folder: Path) -> None:
    """Wait until everything has come once and then, in an answer that repeats the key, was refused."""
    await until(lambda: has_all(there), "one of each", 60)
    there.keys.clear()
    wanted = {("/api/v1/events", 403), ("/api/v2/series", 403)}
    await until(lambda: wanted <= set(there.statuses), "refusals", 60)
    await until(lambda: b"RuntimeError" in (folder / "agent.log").read_bytes(), "a crash", 60)


def has_all(there: Intake) -> bool:
    return all(there.bodies(path) for path in ("events", "check_run", "series")) and any(
        log["message"] == "the end" for body in there.bodies("logs") for log in body
    )


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
    return {*shown(text), *(one for one in KNOWN if one in text), *(one for one in CARDS.values() if one in text)}


async def search(folder: Path, *commands: str) -> None:
    """Have an agent and the commands do what they do, and search everything."""
    site = Site(folder)
    plant(folder)
    async with intake() as there:
        configure(folder, there.url)
        log = (folder / "agent.log").open("wb")
        agent = await asyncio.create_subprocess_exec(
            *COMMAND, "run", cwd=folder, env=site._environ, stdout=log, stderr=log
        )
        try:
            await until_said(there, folder)
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
    written = everything_in(folder) | records | site.printed
    written |= {f"payload {number}": raw for number, raw in enumerate(there.raw_seen)}
    assert len([name for name in records if name.startswith("datadog")]) > 1
    assert len([name for name in records if name.startswith("other")]) > 5
    assert b"login with **** and **** refused" in b"".join(written.values())
    assert all(site.printed.values())
    found = {name: some for name, data in written.items() if (some := plants_in(data.decode("latin-1")))}
    for command in ("check log_file", "check log_file --json"):  # it reads log_file.yaml, and no other file's secrets
        if some := found.pop(command, set()) - {*KNOWN}:
            found[command] = some
    in_state = found.pop(str(folder / "state" / "state.db"), set())
    assert in_state <= IN_NAMES  # where it stands in which file
    assert found == {}
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

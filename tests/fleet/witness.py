"""A third party's package as pip would leave it: its check and its sink tell a court of each lease, run and packet."""

from __future__ import annotations

from pathlib import Path

_MODULE = '''
import asyncio, itertools, json, os, socket, time
from vedette import Check, CheckConfig, Kind, Metric, Sink, SinkConfig, hookimpl
from vedette.lease import Lease
from vedette.runner import Runner

TERMS = {}
NUMBERS = itertools.count(1)

def who(lease):
    """The member whose lease it is: this process, and which of its terms. Terms are kept, so that no id comes twice."""
    term, number = TERMS.setdefault(id(lease.term), (lease.term, next(NUMBERS)))
    return f"{os.environ['WITNESS_NAME']}/{os.getpid()}/{number}"

def tell(lease, what, windows=(), sink=""):
    event = {"held": lease.held, "left": lease.term.left, "at": time.clock_gettime(time.CLOCK_BOOTTIME)}
    event |= {"what": what, "instance": lease.instance, "by": who(lease), "token": lease.token, "windows": windows}
    SOCKET.send(json.dumps(event | {"sink": sink, "wall": time.time()}).encode())

SOCKET = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
SOCKET.connect(("127.0.0.1", int(os.environ["WITNESS_PORT"])))

class Windows(Check[CheckConfig]):
    """Reports each tenth of a second once, and commits how far it came: a watermark."""
    name = "windows"
    metrics = (Metric("windows.number", Kind.GAUGE),)
    keeps_state = True

    async def run(self, emit):
        tell(self.runner.lease or self.lease, "run")
        end = int(time.clock_gettime(time.CLOCK_BOOTTIME) * 10)
        # else whoever takes over between the first packet and its commit would begin at its own first window
        if "mark" not in self.state and not await emit.save("mark", end - 1):
            return
        first = self.state["mark"] + 1
        for number in range(first, end + 1):
            emit.gauge("windows.number", number, time=number / 10)
        emit.commit("mark", end)

prepare = Runner._prepare

def prepare_and_tell(self):
    prepare(self)
    self._check.runner, self._check.lease = self, self.lease

Runner._prepare = prepare_and_tell

made, end = Lease.__init__, Lease.end

def make_and_tell(self, term, instance, token, *more):
    made(self, term, instance, token, *more)
    if token:  # a child process has leases of its own making, which have none
        tell(self, "got")

def end_and_tell(self):
    before = self._over
    end(self)
    if self.token and not before:
        tell(self, "back")

Lease.__init__, Lease.end = make_and_tell, end_and_tell

class WitnessConfig(SinkConfig):
    delay: float = 0.0

class Witness(Sink[WitnessConfig]):
    """Sends each batch that has a lease as one datagram, after a while; what another may have by then it drops."""
    name = "witness"
    durable = True

    async def run(self, batches):
        while True:
            taken = await batches.take()
            if self.config.delay:
                await asyncio.sleep(self.config.delay)
            for batch in taken:
                if batch.lease is not None and batch.lease.lasts:
                    windows = [one.value for one in batch.samples if one.name == "windows.number"]
                    tell(batch.lease, "sent", windows, self.config.name)
            batches.release()()
            if batches.ended:
                return

@hookimpl
def register_checks(register):
    register(Windows)
'''
_SINK = """
from vedette import hookimpl
from vedette_witness import Witness

@hookimpl
def register_sinks(register):
    register(Witness)
"""
_POINTS = "[vedette.checks]\nwindows = vedette_witness\n\n[vedette.sinks]\nwitness = vedette_witness_sink\n"


def install(folder: Path) -> str:
    """Write the package; returns the PYTHONPATH that makes it installed."""
    site = folder / "site"
    info = site / "witness-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "vedette_witness.py").write_text(_MODULE)
    (site / "vedette_witness_sink.py").write_text(_SINK)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: witness\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(_POINTS)
    return str(site)

"""A third party's package as pip would leave it, in a folder for PYTHONPATH: checks that misbehave."""

from __future__ import annotations

from pathlib import Path

_MODULE = '''
import asyncio, pathlib, sys, time
from vedette import Check, CheckConfig, Kind, Metric, hookimpl

class Options(CheckConfig):
    how: str = "well"
    touch: pathlib.Path | None = None

class Misbehaves(Check[Options]):
    """Behaves badly on request."""
    name = "misbehaves"
    metrics = (Metric("misbehaves.value", Kind.GAUGE),)

    async def run(self, emit):
        if self.config.touch:
            self.config.touch.touch()
        await getattr(self, "_" + self.config.how)(emit)

    async def _well(self, emit):
        emit.gauge("misbehaves.value", 1)

    async def _swallows(self, emit):
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                pass

    async def _exits(self, emit):
        sys.exit(5)

    async def _thread(self, emit):
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, time.sleep, 600))

    async def _raises(self, emit):
        raise RuntimeError("token=hunter2secret at https://u:hunter2secret@h/")

@hookimpl
def register_checks(register):
    register(Misbehaves)
'''


def install(folder: Path) -> str:
    """Write the package; returns the PYTHONPATH that makes it installed."""
    site = folder / "site"
    info = site / "misbehaves-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "vedette_misbehaves.py").write_text(_MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaves\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vedette.checks]\nmisbehaves = vedette_misbehaves\n")
    return str(site)

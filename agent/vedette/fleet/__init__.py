"""Floor 4: the fleet: of several agents exactly one runs each instance that says `run_on: leader` or `hash`."""

from __future__ import annotations

from vedette.fleet.fleet import Fleet, Holding
from vedette.fleet.vitals import FleetVitals, MemberVitals

__all__ = ["Fleet", "FleetVitals", "Holding", "MemberVitals"]

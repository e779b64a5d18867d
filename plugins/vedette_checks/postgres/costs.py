"""What runs cost the server: for `vedette plan`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from asyncpg import InterfaceError, PostgresError

from vedette import Estimate
from vedette_checks.postgres.config import PostgresConfig
from vedette_checks.postgres.database import Database, UnreachableError
from vedette_checks.postgres.findings import refusal_of_own
from vedette_checks.postgres.queries import QueryConfig, sent
from vedette_checks.postgres.session import Session
from vedette_checks.postgres.tour import Tour

_EXPLAIN = "EXPLAIN (FORMAT JSON) "


async def estimate(config: PostgresConfig, home: Database, tour: Tour | None, patience: float) -> Sequence[Estimate]:
    """The statements of the last run, and the planner's cost of each of the user's queries.

    Args:
        config: the instance's options.
        home: its own database, which the last run has visited.
        tour: the other databases, if it visits any.
        patience: seconds that the server may take.
    """
    lines = [Estimate("statements per run", home.asked, "statements")]
    if tour is not None:
        lines.append(Estimate("statements per run in other databases", tour.asked, "statements"))
    for query in config.queries:
        try:
            lines.append(await home.talk(lambda session, query=query: _explain(session, query, home), patience))  # type: ignore[misc]
        except UnreachableError as error:
            lines.append(Estimate(f"query {query.name}: EXPLAIN", None, hint=str(error)))
    return lines


async def _explain(session: Session, query: QueryConfig, home: Database) -> Estimate:
    what = f"query {query.name}: EXPLAIN cost"
    try:
        ((answer,),) = await session.fetch(_EXPLAIN + sent(query))
    except (PostgresError, InterfaceError) as error:
        if not session.stands:
            raise
        return Estimate(what, None, hint=str(refusal_of_own(error, "refused", home.target, len(_EXPLAIN))))
    plan: dict[str, Any] = json.loads(answer)[0]["Plan"]
    scanned = sorted(_scanned(plan))
    hint = f"reads {', '.join(scanned)} from end to end" if scanned else ""
    return Estimate(what, plan["Total Cost"], "cost units", hint)


def _scanned(plan: dict[str, Any]) -> set[str]:
    """The tables that a plan reads without an index."""
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set[str]()
    for inner in plan.get("Plans", ()):
        found |= _scanned(inner)
    return found

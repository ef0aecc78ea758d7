"""The table of a run, for the terminal and for docs/proof.md."""

import os
import platform
import sqlite3
import subprocess
from collections.abc import Sequence

from tests.chaos.rig import Verdict
from tests.end_to_end.server import ROOT
from tests.history.checker import Rule

PROOF = ROOT / "docs" / "proof.md"
_REMARKS = "## Remarks\n\nBy hand, each on a commit that it names; `make chaos` keeps them.\n"
_HEAD = ("phase", "what was done", "seconds", "jobs", "deliveries", "resumed", "calls", "outcome unknown", "violations")


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as a table in Markdown."""
    rows: list[tuple[object, ...]] = [_HEAD, ("---", "---", *["---:"] * 7)]
    rows += [_row(verdict) for verdict in verdicts]
    total = [sum(row) for row in zip(*(_row(verdict)[2:] for verdict in verdicts), strict=True)]
    rows.append(("all", "", *total))
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def _row(verdict: Verdict) -> tuple[str, str, int, int, int, int, int, int, int]:
    return (
        verdict.phase,
        verdict.did,
        verdict.seconds,
        verdict.enqueued,
        verdict.deliveries,
        verdict.resumed,
        verdict.calls,
        verdict.unknown,
        len(verdict.violations),
    )


def proof(verdicts: Sequence[Verdict], seed: int, page: str) -> str:
    """Return the page that keeps a run, with the remarks of the ``page`` that it replaces."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, check=True, encoding="utf-8"
    ).stdout.strip()
    machine = (
        f"{os.cpu_count()} processors, Linux {platform.release()}, Python {platform.python_version()},"
        f" SQLite {sqlite3.sqlite_version}"
    )
    figures = [f"- {verdict.phase}: {figure}" for verdict in verdicts for figure in verdict.figures]
    violations = [f"- {verdict.phase}: {each}" for verdict in verdicts for each in verdict.violations]
    return "\n".join(
        [
            "# Proof under faults",
            "",
            "`make chaos` writes this page, all but the remarks at its end. Workers over WebSocket (with and without",
            "prefetch, in batches or not, dropping connections and resuming), workers over REST, producers and",
            "operators write down each call, outcome and delivery while faults are made; then the history checker in",
            "`tests/history` judges all of it and a final dump of the jobs. Its rules, each tested with a seeded",
            "violation:",
            "",
            *(f"- {rule}" for rule in Rule),
            "",
            "Errors in the server's log count as violations too.",
            "",
            "On PostgreSQL there are two servers, a worker at each that must never be cut off, and callers and",
            "workers that come to either: a call must be answered, with no 5xx but a 503 that says when to come again.",
            "“Back” is from the database's first answer (or a server's end) until a job enqueued at each server is",
            "done at each, 5 s at most.",
            "",
            f"Commit `{commit}`; {machine}; leases of 1 s, on PostgreSQL 2 s; seed {seed}.",
            "“Outcome unknown”: no answer, a 5xx, or a lost",
            "connection.",
            "",
            table(verdicts),
            "",
            "## Measured",
            "",
            *(figures or ["Nothing."]),
            "",
            "## Violations",
            "",
            *(violations or ["None."]),
            "",
            _REMARKS + page.partition(_REMARKS)[2],
        ]
    )

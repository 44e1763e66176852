"""Run every campaign at full length and write how its cases ended to docs/reliability.md.

    python benchmarks/reliability.py [cases]

The table is written between two marker lines of the page. The exit code is that of pytest: 0 only where no case ended
silently wrong, in a traceback or not at all.
"""

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
COLUMNS = ("right", "refused", "wrong", "hangs", "tracebacks")


def table(tallies: list[dict[str, object]], cases: str) -> str:
    """The counts as a Markdown table, a row per campaign."""
    rows = [
        "| boundary | what was tried | cases | right | refused with an error | silently wrong | hangs | tracebacks |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for tally in sorted(tallies, key=lambda tally: (str(tally["boundary"]), str(tally["tried"]))):
        counts = [int(str(tally[name])) for name in COLUMNS]
        rows.append(
            f"| {tally['boundary']} | {tally['tried']} | "
            + " | ".join(f"{count:,}" for count in [sum(counts), *counts])
            + " |"
        )
    totals = [sum(int(str(tally[name])) for tally in tallies) for name in COLUMNS]
    rows.append("| **all** | | " + " | ".join(f"{n:,}" for n in [sum(totals), *totals]) + " |")
    day = datetime.now(UTC).date().isoformat()
    return f"Made by `python benchmarks/reliability.py {cases}` on {day}.\n\n" + "\n".join(rows)


def main() -> int:
    cases = sys.argv[1] if len(sys.argv) > 1 else "2000"
    with tempfile.TemporaryDirectory() as folder:
        tally = Path(folder) / "tally.jsonl"
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-n", "2", "-q", "-m",
                "campaign and not gpu and not network", "--timeout", "3600",
            ],
            env={**os.environ, "REMOTESAM_GEO_CASES": cases, "REMOTESAM_GEO_TALLY": str(tally)},
            cwd=PAGE.parents[1],
            check=False,
        )  # fmt: skip
        tallies = [json.loads(line) for line in tally.read_text().splitlines()]
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(tallies, cases)}\n{END}{after}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

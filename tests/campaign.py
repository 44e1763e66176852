"""Campaigns: many hostile or odd cases against one boundary, counted by how each ended.

A test asks for the `campaign` fixture, names what it tries, and runs each case through `Campaign.case`. A case passes
when it ends in the right result, or in an error of this package. It fails as silently wrong, as a traceback (any other
exception) or as a hang. `benchmarks/reliability.py` runs the campaigns at full length and writes their counts to
`docs/reliability.md`.
"""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from remotesam_geo.errors import RemoteSAMError

CASES = int(os.environ.get("REMOTESAM_GEO_CASES", "200"))
"""Cases of a campaign: 200 in `make test`, 2,000 in `make slow`. Use it as Hypothesis' `max_examples`."""


class SilentlyWrongError(AssertionError):
    """A case ended in a wrong result, without an error."""


@dataclass
class Campaign:
    """Counts of one campaign.

    Attributes:
        boundary: What was attacked, for example "HTTP answers" or "job folders".
        tried: What was done to it, in a few words.
        right: Cases that ended in the right result.
        refused: Cases that ended in an error of this package.
        wrong: Cases that ended in a wrong result, silently.
        tracebacks: Cases that ended in any other exception.
        hangs: Cases that did not end.
    """

    boundary: str
    tried: str
    right: int = 0
    refused: int = 0
    wrong: int = 0
    tracebacks: int = 0
    hangs: int = 0

    def case(self, run: Callable[[], Any], *, limit: float = 120) -> None:
        """Run one case in a thread of its own and count how it ended.

        Args:
            run: Does the work and checks its result: it returns where the result is right, and raises AssertionError
                where it is wrong. An error of this package counts as refused.
            limit: Seconds after which the case counts as a hang.

        Raises:
            AssertionError: The case ended silently wrong, in a traceback, or not at all.
        """
        ended: list[BaseException | None] = []

        def work() -> None:
            try:
                run()
            except BaseException as error:  # noqa: BLE001 - every end is counted
                ended.append(error)
            else:
                ended.append(None)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(limit)
        if not ended:
            self.hangs += 1
            raise AssertionError(f"{self.boundary}: a case did not end within {limit} s")
        (error,) = ended
        if error is None:
            self.right += 1
        elif isinstance(error, RemoteSAMError):
            self.refused += 1
        elif isinstance(error, AssertionError):
            self.wrong += 1
            raise SilentlyWrongError(f"{self.boundary}: {error}") from error
        else:
            self.tracebacks += 1
            raise AssertionError(f"{self.boundary}: a raw {type(error).__name__} reached the user: {error}") from error

    def record(self) -> None:
        """Append the counts to the file that `benchmarks/reliability.py` names, where it named one."""
        path = os.environ.get("REMOTESAM_GEO_TALLY")
        if path:
            with Path(path).open("a") as file:
                file.write(json.dumps(asdict(self)) + "\n")

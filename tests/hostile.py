"""Run pytest with the arguments given here, in the hostile environment of `tests.environment`."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.environment import HOSTILE  # noqa: E402


def main() -> int:
    """The exit code of pytest."""
    command = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    return subprocess.run(command, env={**os.environ, **HOSTILE}, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

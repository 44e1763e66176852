"""`python -m remotesam_geo` is the command line, for launchers such as torchrun."""

from .cli import run

run()

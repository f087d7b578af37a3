"""The command line.

Results go to standard output, progress and messages to standard error. A mistake of the user's is answered with one
message and an exit code, never with a traceback.
"""

from limbeck.cli.app import app, main
from limbeck.cli.leaving import EXIT_CODES

__all__ = ["EXIT_CODES", "app", "main"]

"""Errors that a user can cause, and how a command ends on one.

A `UserError` is one line: what is wrong, with which file or key, and what to do. A command prints it and exits
with 1; a bug keeps its traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend. The message is one line and names the file or key and the remedy."""


def run(main: Callable[[], None]) -> None:
    """Run a command's `main`; a `UserError` ends it with one line and exit code 1, Ctrl-C with 130."""
    # Without this a SIGTERM (from `dvc`, a scheduler, a shut-down) skips `finally` and leaves files half-written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    command = (main.__module__ if main.__module__ != "__main__" else sys.argv[0]).rpartition("/")[2].removesuffix(".py")
    try:
        main()
    except UserError as error:
        print(f"{command}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        sys.exit(130)

"""Errors that a user can cause, and how a command exits on one.

A `UserError` is one line: what is wrong, with which file or key, and what to do. A command prints it and exits
with 1; a bug keeps its traceback.
"""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

# Causes outside the program: no space (full disk, quota, `ulimit -f`), missing permissions, a read-only file system.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RECOVERABLE = (*NO_SPACE, errno.EACCES, errno.EPERM, errno.EROFS)


class UserError(Exception):
    """An error that the user can fix. The message is one line that names the file or key and the remedy."""


class Parser(argparse.ArgumentParser):
    """Raises UserError for invalid options: argparse would exit with 2, which means unreadable inputs in `predict`."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: see --help")


def printable(text: str) -> str:
    """A text, often a file's name, that is safe to print and to encode as UTF-8.

    Control and bidirectional characters, line breaks and lone surrogates are escaped: a name cannot move the cursor,
    colour the terminal, or look like another name.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def run(main: Callable[[], None], command: str | None = None) -> None:
    """Run a command's `main`; a `UserError` ends it with one line and exit code 1, Ctrl-C with 130.

    `command` is its name in messages, by default that of the module.
    """
    # Without this, SIGTERM (from `dvc`, a scheduler, a shutdown) skips `finally` and leaves half-written files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # of `python -m pipeline.split`, or of a package
    if command is None:
        command = spec.name.removesuffix(".__main__").rpartition(".")[2] if spec else Path(sys.argv[0]).stem
    try:
        main()
    except UserError as error:
        print(f"{command}: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in RECOVERABLE:
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        print(f"{command}: {printable(str(what))}: free space or fix the permissions, then run again", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        sys.exit(130)

"""The command ``stochrestore``, which a signal ends without a traceback, even as it starts."""

from __future__ import annotations

import os
import signal
import sys


class Interrupted(BaseException):
    """Ctrl-C was pressed, or the process was asked to end; the argument is the signal's number."""


def main() -> None:
    """Run the command line; a signal ends it in one line and status 128 + its number."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    _in_utf8()
    try:
        from stochrestore import cli  # takes seconds

        cli.main()
    except Interrupted as interruption:
        print("stochrestore: interrupted", file=sys.stderr)
        sys.exit(128 + interruption.args[0])


def _in_utf8() -> None:
    """Begin again in UTF-8 mode where the locale knows no other letters than its own.

    Names of files may have them; what is printed stays in the terminal's encoding.
    """
    if sys.getfilesystemencoding() != "utf-8":
        mode = {"PYTHONUTF8": "1", "PYTHONIOENCODING": sys.stdout.encoding}
        command = [sys.executable, "-m", "stochrestore", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | mode)
    os.environ.pop("PYTHONIOENCODING", None)  # what is written for others is UTF-8


def _interrupt(number: int, _: object) -> None:
    raise Interrupted(number)


if __name__ == "__main__":
    main()

"""Chromium for tests that need a browser: the one on PATH, else Debian's where we may install it."""

import os
import shutil
import sys

from stack import tools
from stack.errors import MissingProgramError, StackError
from stack.surroundings import shell

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """Return the path of a browser that is there."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def find_or_install(say: tools.Say = lambda _: None) -> str:
    """Return the path of a browser, installed with apt-get where there is none and we are root.

    Raises:
        MissingProgramError: there is none and it cannot be installed.

    """
    path = find()
    if path:
        return path
    why, way_out = "tests drive Open WebUI in it", "Install it, for example: apt-get install chromium."
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        name = "chromium"
        raise MissingProgramError(name, why, way_out)
    say("installing Chromium with apt-get")
    quiet = {**shell(), "DEBIAN_FRONTEND": "noninteractive"}
    tools.run(["apt-get", "update", "-qq"], "Chromium", quiet)
    tools.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"], "Chromium", quiet)
    path = find()
    if path is None:
        name = "chromium"
        raise MissingProgramError(name, f"{why}, and apt-get brought none", way_out)
    return path


if __name__ == "__main__":
    try:
        print(find_or_install(lambda text: print(text, file=sys.stderr)))
    except StackError as error:
        sys.exit(str(error))

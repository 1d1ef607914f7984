"""Open WebUI from its package, in its own virtual environment."""

import json
import os
import shutil
from pathlib import Path

from stack import tools
from stack.compose import Service
from stack.http import answers
from stack.processes import Program
from stack.rewrite import LOOPBACK, listen_on

IMAGE_FRONTEND = "/app/build"
"""Where the image has the browser's files; mounts below it replace some of them."""


def program(service: Service, environment: dict[str, str], frontend: Path, static: Path, port: int) -> Program:
    """Return the server."""
    variables = {
        **listen_on(environment, "HOST", "PORT", port),
        "FRONTEND_BUILD_DIR": str(frontend),
        # Open WebUI empties this folder at every start and fills it from the frontend's own `static`.
        "STATIC_DIR": str(static),
    }
    static.mkdir(parents=True, exist_ok=True)
    argv: list[str | Path] = [
        tools.OPENWEBUI_VENV / "bin" / "open-webui",
        "serve",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
    ]
    url = f"http://{LOOPBACK}:{port}{service.health_path}"
    return Program("openwebui", argv, variables, answers(url), deadline=300, grace=service.grace)


def lay_frontend(target: Path, mounts: dict[str, Path]) -> None:
    """Make a frontend folder of links to the package's files, with those replaced that compose mounts over the image's.

    Hard links, because Open WebUI serves no symbolic link that leaves the folder.
    """
    (package,) = (tools.OPENWEBUI_VENV / "lib").glob("python3.*/site-packages/open_webui/frontend")
    folder = IMAGE_FRONTEND + "/"
    replaced = {place.removeprefix(folder): path for place, path in mounts.items() if place.startswith(folder)}
    key = tools.fingerprint(str(package), json.dumps(sorted(replaced)), *(path for _, path in sorted(replaced.items())))
    stamp = target.with_suffix(".stamp")
    if target.exists() and tools.done(stamp, key):
        return
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(package, target, copy_function=_link)
    for place, path in replaced.items():
        destination = target / place
        destination.parent.mkdir(parents=True, exist_ok=True)
        # Not into the link: that would write into the package's own file.
        destination.unlink(missing_ok=True)
        shutil.copyfile(path, destination)
    stamp.write_text(key, encoding="utf-8")


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, as a temporary folder may be
        shutil.copy2(source, target)
    return target

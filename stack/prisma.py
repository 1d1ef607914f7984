"""Prisma for LiteLLM's database: the native query engine where it can be downloaded, else the one from npm.

LiteLLM reaches PostgreSQL through prisma-client-py, which starts a `query-engine` executable that Prisma offers on its
own download host only. `stack/prisma_engine` serves the same interface with the WebAssembly build of it from npm.
"""

import json
import re
import shutil
import sys
import urllib.error
import urllib.request
from enum import StrEnum
from pathlib import Path

from stack import surroundings, tools
from stack.errors import StackError
from stack.state import ROOT, TOOLS

SOURCES = ROOT / "stack" / "prisma_engine"
ENGINE = TOOLS / "prisma-engine"
QUERY_ENGINE = ENGINE / "query-engine.cjs"

_STAND_INS = {
    "PRISMA_QUERY_ENGINE_BINARY": str(QUERY_ENGINE),
    # Does nothing, but has to be there: LiteLLM runs Prisma's command line at every start to compare schemas, and that
    # would try to download one, and LiteLLM would wait for it.
    "PRISMA_SCHEMA_ENGINE_BINARY": str(QUERY_ENGINE),
}
_DOWNLOAD_HOST = "https://binaries.prisma.sh"
_ENGINE_VERSION = "393aa359c9ad4a4bb28630fb5613f9c281cde053"
_PATIENCE = 5
"""Seconds to wait for the download host before doing without it."""
_LOCATE = """
from prisma.client import BINARY_PATHS
from prisma.engine import utils
print(utils.ensure(BINARY_PATHS.query_engine))
"""


class Engine(StrEnum):
    """Which query engine LiteLLM uses."""

    NATIVE = "native"
    WASM = "wasm"


def prepare(say: tools.Say) -> Engine:
    """Install the engine and generate the client into this Python environment, once per version."""
    _install(say)
    schema = tools.package("litellm") / "proxy" / "schema.prisma"
    # In the client's own folder: a new installation of it takes the stamp away together with the generated code.
    stamp = tools.package("prisma") / "generated-for-owui-budget.json"
    key = tools.fingerprint(schema, SOURCES / "package-lock.json", str(ENGINE))
    if stamp.exists():
        known = json.loads(stamp.read_text(encoding="utf-8"))
        if known["key"] == key:
            return Engine(known["engine"])
    local = ENGINE / "schema.prisma"
    # Engines for this machine only: the images' schema asks for five.
    local.write_text(
        re.sub(r"binaryTargets = \[.*\]", 'binaryTargets = ["native"]', schema.read_text(encoding="utf-8"))
    )
    engine = _generate(local, say)
    stamp.write_text(json.dumps({"key": key, "engine": engine}), encoding="utf-8")
    return engine


def environment(engine: Engine) -> dict[str, str]:
    """Return what LiteLLM's process needs to find the engine."""
    common = {
        "PRISMA_BINARY_CACHE_DIR": str(ENGINE),
        # The stack applies LiteLLM's migrations itself (see stack.litellm): Prisma's migration engine is not on npm.
        "DISABLE_SCHEMA_UPDATE": "true",
    }
    return common if engine is Engine.NATIVE else {**common, **_STAND_INS}


def _install(say: tools.Say) -> None:
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in {".cjs", ".json"})
    stamp = ENGINE / "installed"
    key = tools.fingerprint(*files)
    if tools.done(stamp, key):
        return
    tools.node()
    say("installing Prisma's command line and engine from npm")
    ENGINE.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copy2(path, ENGINE / path.name)
    npm = shutil.which("npm")
    tools.run([str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", ENGINE], "Prisma")
    stamp.write_text(key, encoding="utf-8")


def _generate(schema: Path, say: tools.Say) -> Engine:
    prisma = tools.DEV_BIN / "prisma"
    # prisma-client-py finds its generator on PATH.
    variables = {
        **surroundings.shell(),
        "PRISMA_BINARY_CACHE_DIR": str(ENGINE),
        "PATH": f"{tools.DEV_BIN}:{surroundings.path()}",
    }
    command: list[str | Path] = [prisma, "generate", "--schema", schema]
    if _downloadable():
        say("generating LiteLLM's database client (native engine)")
        try:
            tools.run(command, "prisma generate", variables, timeout=180)
            tools.run([sys.executable, "-c", _LOCATE], "Prisma's query engine", variables, timeout=60)
        except StackError as error:
            say(f"Prisma's native engine cannot be used, taking the one from npm: {str(error).splitlines()[0]}")
        else:
            return Engine.NATIVE
    say("generating LiteLLM's database client (engine from npm)")
    tools.run(command, "prisma generate", {**variables, **_STAND_INS}, timeout=180)
    return Engine.WASM


def _downloadable() -> bool:
    host = surroundings.shell().get("PRISMA_ENGINES_MIRROR", _DOWNLOAD_HOST)
    url = f"{host}/all_commits/{_ENGINE_VERSION}/debian-openssl-3.0.x/query-engine.gz"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE):  # noqa: S310 - https
            return True
    except (urllib.error.URLError, OSError, ValueError):
        return False

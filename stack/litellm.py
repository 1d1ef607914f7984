"""LiteLLM's proxy with its database."""

import time
from http import HTTPStatus
from pathlib import Path

import httpx
import psycopg

from stack import postgres, prisma, tools
from stack.compose import Service
from stack.endpoints import LiteLLM
from stack.errors import StackError
from stack.http import answers
from stack.processes import Program
from stack.rewrite import LOOPBACK, listen_on

_RECORD = """
CREATE SCHEMA IF NOT EXISTS stack;
CREATE TABLE IF NOT EXISTS stack.litellm_migrations (
    name text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""
_DONE = "INSERT INTO stack.litellm_migrations (name) VALUES ('{}')"
"""For names of folders of an installed package."""

_KEY_DEADLINE = 60
"""Seconds for the sync job to create Open WebUI's key."""


def migrate(database_url: str, say: tools.Say) -> None:
    """Apply those of LiteLLM's own migrations that this database does not have yet.

    In its image LiteLLM does this itself at every start, with a program that Prisma offers on its download host only.
    """
    folder = tools.package("litellm_proxy_extras") / "migrations"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_RECORD)
        applied = {name for (name,) in connection.execute("SELECT name FROM stack.litellm_migrations")}
        pending = [path for path in sorted(folder.glob("*/migration.sql")) if path.parent.name not in applied]
    if pending:
        say(f"applying {len(pending)} of LiteLLM's migrations")
        steps = [(path, _DONE.format(path.parent.name)) for path in pending]
        postgres.run_scripts(steps, database_url)


def program(
    name: str, service: Service, environment: dict[str, str], command: list[str], port: int, engine: prisma.Engine
) -> Program:
    """Return one proxy process."""
    variables = {
        **listen_on(environment, "HOST", "PORT", port),
        **prisma.environment(engine),
        # The client's generator and engine are looked up on PATH.
        "PATH": f"{tools.DEV_BIN}:{_node_folder()}:/usr/local/bin:/usr/bin:/bin",
    }
    url = f"http://{LOOPBACK}:{port}{service.health_path}"
    return Program(
        name, [tools.DEV_BIN / "litellm", *command], variables, answers(url), deadline=300, grace=service.grace
    )


def create_connection_key(proxy: LiteLLM) -> None:
    """Create the key that Open WebUI uses, for stacks that run without the sync job, which does this otherwise.

    Raises:
        StackError: LiteLLM refused.

    """
    with _client(proxy.url, proxy.master_key) as client:
        if client.get("/key/info", params={"key": proxy.openwebui_key}).status_code == HTTPStatus.OK:
            return
        # Wider than what sync allows: tests that run without it call every route.
        wish = {"key": proxy.openwebui_key, "key_alias": "open-webui", "allowed_routes": ["llm_api_routes"]}
        answer = client.post("/key/generate", json=wish)
    if answer.status_code != HTTPStatus.OK:
        msg = f"LiteLLM did not create Open WebUI's key: {answer.status_code} {answer.text[:500]}"
        raise StackError(msg)


def wait_for_connection_key(proxy: LiteLLM) -> None:
    """Wait until LiteLLM knows the key that Open WebUI uses.

    Raises:
        StackError: the sync job did not create it in time.

    """
    deadline = time.monotonic() + _KEY_DEADLINE
    with _client(proxy.url, proxy.openwebui_key) as client:
        while (answer := client.get("/v1/models")).status_code != HTTPStatus.OK:
            if time.monotonic() > deadline:
                msg = f"Open WebUI's key is not in LiteLLM after {_KEY_DEADLINE} s: {answer.text[:300]}. See make logs."
                raise StackError(msg)
            time.sleep(0.3)


def _client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False)


def _node_folder() -> Path:
    return Path(tools.node()).parent

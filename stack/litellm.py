"""LiteLLM's proxy with its database."""

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


def migrate(database_url: str, say: tools.Say) -> None:
    """Apply those of LiteLLM's own migrations that this database does not have yet.

    In its image LiteLLM does this itself at every start, with a program that Prisma offers on its download host only.
    """
    folder = tools.package("litellm_proxy_extras") / "migrations"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_RECORD)
        applied = {name for (name,) in connection.execute("SELECT name FROM stack.litellm_migrations")}
        pending = [path for path in sorted(folder.glob("*/migration.sql")) if path.parent.name not in applied]
        if not pending:
            return
        say(f"applying {len(pending)} of LiteLLM's migrations")
        postgres.run_scripts(pending, database_url)
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO stack.litellm_migrations (name) VALUES (%s)", [(path.parent.name,) for path in pending]
            )


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
        name, [tools.DEV_BIN / "litellm", *command], variables, answers(url), deadline=180, grace=service.grace
    )


def ensure_connection_key(proxy: LiteLLM) -> None:
    """Create the key that Open WebUI uses, for stacks that run without the sync job, which does this otherwise.

    Raises:
        StackError: LiteLLM refused.

    """
    with httpx.Client(
        base_url=proxy.url, headers={"Authorization": f"Bearer {proxy.master_key}"}, timeout=30
    ) as client:
        if client.get("/key/info", params={"key": proxy.openwebui_key}).status_code == HTTPStatus.OK:
            return
        wish = {"key": proxy.openwebui_key, "key_alias": "open-webui", "allowed_routes": ["llm_api_routes"]}
        answer = client.post("/key/generate", json=wish)
    if answer.status_code != HTTPStatus.OK:
        msg = f"LiteLLM did not create Open WebUI's key: {answer.status_code} {answer.text[:500]}"
        raise StackError(msg)


def _node_folder() -> Path:
    return Path(tools.node()).parent

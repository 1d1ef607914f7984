"""After everything else: what was said and what opens doors is in no log, no spool and no table of ours."""

import json

import pytest
import sqlalchemy as sa

from failure.fleet import OPEN, Fleet
from owui_budget.database.tables import metadata

pytestmark = pytest.mark.stack

PROMPT = "canary-prompt-4711"
ANSWER = "You wrote:"


@pytest.fixture(scope="module")
def canaries(fleet: Fleet) -> dict[str, str]:
    fleet.up(OPEN)
    proxied = fleet[OPEN]
    person = proxied.person(proxied.group({"daily": {"hard": 10**9}}))
    token, forged = proxied.sign(person.id), proxied.sign(person.id, secret="canary-secret-" * 4)
    assert person.chat(f"{PROMPT} plain", headers={"X-OpenWebUI-User-Jwt": token}).status_code == 200
    assert person.chat(f"{PROMPT} stream", stream=True, headers={"X-OpenWebUI-User-Jwt": token}).status_code == 200
    assert person.chat(f"{PROMPT} forged", headers={"X-OpenWebUI-User-Jwt": forged}).status_code == 401
    assert person.chat(f"[[sim status=500]] {PROMPT}").status_code == 500
    assert person.chat(f"[[sim tokens=20 die=3 delay=0.02]] {PROMPT}", stream=True).status_code == 200
    person.events(3)
    passwords = fleet.stack.environment("litellm")["OWUI_BUDGET_DATABASE_URL"].split(":")[2].split("@")[0]
    return {
        "the prompt": PROMPT,
        "the answer": ANSWER,
        "a user's token": token.rsplit(".", 1)[1],
        "a forged token": forged.rsplit(".", 1)[1],
        "the signing secret": proxied.litellm.jwt_secret,
        "the connection key": proxied.litellm.openwebui_key,
        "the master key": proxied.litellm.master_key,
        "the database password": passwords,
    }


def test_no_secret_is_in_a_row_of_the_ledger(fleet: Fleet, canaries: dict[str, str]) -> None:
    rows = []
    with fleet[OPEN].engine.connect() as connection:
        for table in metadata.sorted_tables:
            rows.extend(json.dumps([str(value) for value in row]) for row in connection.execute(sa.select(table)))
    text = "\n".join(rows)
    assert len(rows) > 10
    assert [name for name, value in canaries.items() if value in text] == []


def test_no_secret_is_in_the_spools_folder(fleet: Fleet, canaries: dict[str, str]) -> None:
    folder = fleet.stack.state.volumes / "litellm-spool"
    text = "\n".join(path.read_text(errors="replace") for path in folder.iterdir())
    assert "revision" in text
    assert [name for name, value in canaries.items() if value in text] == []


def test_no_secret_is_in_a_log(fleet: Fleet, canaries: dict[str, str]) -> None:
    for path in sorted(fleet.stack.state.logs.glob("litellm*.log")):
        text = path.read_text(errors="replace")
        assert [name for name, value in canaries.items() if value in text] == [], path.name

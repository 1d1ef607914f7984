"""The translation between the two protocols of Prisma's query engine."""

import json
import subprocess
from typing import Any

import pytest

from stack import tools
from stack.state import ROOT

PROTOCOL = ROOT / "stack" / "prisma_engine" / "protocol.cjs"


def evaluate(expression: str) -> Any:
    code = f"const p = require({json.dumps(str(PROTOCOL))}); console.log(JSON.stringify({expression}))"
    done = subprocess.run([tools.node(), "-e", code], capture_output=True, text=True, check=True)  # noqa: S603
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "action", "model"),
    [
        ("findUniqueLiteLLM_TeamTable", "findUnique", "LiteLLM_TeamTable"),
        ("findUniqueLiteLLM_TeamTableOrThrow", "findUniqueOrThrow", "LiteLLM_TeamTable"),
        ("findManyLiteLLM_SpendLogs", "findMany", "LiteLLM_SpendLogs"),
        ("upsertOneLiteLLM_Config", "upsertOne", "LiteLLM_Config"),
        ("createManyLiteLLM_SpendLogs", "createMany", "LiteLLM_SpendLogs"),
        ("groupByLiteLLM_DailyTeamSpend", "groupBy", "LiteLLM_DailyTeamSpend"),
    ],
)
def test_an_operations_name_holds_action_and_model(name: str, action: str, model: str) -> None:
    assert evaluate(f"p.operationOf({json.dumps(name)})") == {"action": action, "modelName": model}


def test_raw_operations_have_no_model() -> None:
    assert evaluate("p.operationOf('queryRaw')") == {"action": "queryRaw"}


def test_marked_values_are_plain_in_answers_but_raw_results_stay() -> None:
    marked = {"at": {"$type": "DateTime", "value": "2026-01-01"}, "more": [{"$type": "BigInt", "value": "9"}]}
    data = json.dumps({"findFirstThing": marked})
    assert evaluate(f"p.toAnswer('result', {data})") == {"result": {"at": "2026-01-01", "more": ["9"]}}
    raw = json.dumps({"queryRaw": {"types": ["int"], "rows": [[{"$type": "x", "value": 1}]]}})
    assert evaluate(f"p.toAnswer('result', {raw})")["result"]["rows"] == [[{"$type": "x", "value": 1}]]

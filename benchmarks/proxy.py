"""What the hooks cost a call: real LiteLLM processes side by side, with and without them.

    python -m benchmarks.proxy [--quick] [--rounds 7] [--seconds 4] [--json FILE]

Two bases: LiteLLM alone, and LiteLLM with its database and a virtual key. Each without callbacks, with a callback that
has our hooks and does nothing in them, and with ours: on SQLite beside the first base, on PostgreSQL beside the second,
a daily and a monthly limit and a pool in force. Every variant gets the same requests with the same headers.

All variants run at once; only one is asked at a time, in an order that rotates, so that whatever else this machine does
meets all of them alike. Ratios are taken within a round, to the same base without callbacks. CPU is that of LiteLLM's
process, all its threads, from /proc/PID/stat, up to half a second after the last answer (ends of calls are written
after the answer); PostgreSQL, Prisma's engine, the provider and the load run in processes of their own.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
import sqlalchemy as sa
import yaml
from pydantic import SecretStr

from owui_budget.config import LedgerSettings
from owui_budget.database import migrate
from owui_budget.database.engine import make_engine
from owui_budget.database.tables import sync_state
from owui_budget.domain.limits import parse_limits
from owui_budget.policy_store.store import SqlPolicyStore
from owui_budget.policy_store.values import Fence, PutGroup, StoredGroup
from stack import litellm, prisma, processes
from stack.http import answers
from stack.plan import Wishes
from stack.run import Stack
from stack.state import ROOT

GROUP = "0b5c2c7e-0000-4000-8000-000000000001"
HUGE = 10**15 - 1
LIMITS = {
    "version": 1,
    "priority": 10,
    "member": {"daily": {"soft": HUGE - 1, "hard": HUGE}, "monthly": {"hard": HUGE}},
    "pool": {"daily": {"hard": HUGE}},
}
NOOP = """
from litellm.integrations.custom_logger import CustomLogger


class NoOp(CustomLogger):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        return data

    async def async_post_call_response_headers_hook(
        self, data, user_api_key_dict, response, request_headers=None, litellm_call_info=None
    ):
        return None

    def async_post_call_streaming_iterator_hook(self, user_api_key_dict, response, request_data):
        return self._pass(response)

    async def _pass(self, response):
        async for chunk in response:
            yield chunk

    async def async_logging_hook(self, kwargs, result, call_type):
        return kwargs, result

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        pass

    async def async_log_failure_event(self, kwargs, response_obj, start_time, end_time):
        pass

    async def async_post_call_failure_hook(
        self, request_data, original_exception, user_api_key_dict, traceback_str=None
    ):
        pass


callback = NoOp()
"""
CALLBACKS = {"none": [], "no-op": ["bench_noop.callback"], "ours": ["owui_budget_hooks.callback.budget"]}
CASES = tuple((stream, clients) for stream in (False, True) for clients in (1, 16))


@dataclass(frozen=True, slots=True)
class Variant:
    """One LiteLLM process."""

    name: str
    instance: str
    base: str
    callbacks: str
    database: bool


VARIANTS = (
    Variant("LiteLLM alone", "litellm-2", "LiteLLM alone", "none", database=False),
    Variant("no-op callback", "litellm-3", "LiteLLM alone", "no-op", database=False),
    Variant("owui-budget on SQLite", "litellm-4", "LiteLLM alone", "ours", database=False),
    Variant("LiteLLM with database and key", "litellm", "LiteLLM with database and key", "none", database=True),
    Variant("no-op callback, database", "litellm-5", "LiteLLM with database and key", "no-op", database=True),
    Variant("owui-budget on PostgreSQL", "litellm-6", "LiteLLM with database and key", "ours", database=True),
)


@dataclass(slots=True)
class Figures:
    """What one variant showed in one case, a value per round."""

    per_second: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Seconds of LiteLLM's process per call."""


Found = dict[str, dict[str, Figures]]
"""Figures by case and variant."""


class Bench:
    """The running processes."""

    def __init__(self, stack: Stack, folder: Path, provider: str, seconds: float) -> None:
        """Prepare folders; nothing runs yet."""
        self._stack = stack
        self._folder = folder
        self._provider = provider
        self._seconds = seconds
        self._keys = stack.endpoints.litellm
        (folder / "modules").mkdir()
        (folder / "modules" / "bench_noop.py").write_text(NOOP, encoding="utf-8")
        self._ledger = f"sqlite:///{folder / 'ledger.db'}"

    def start(self) -> None:
        """Start all variants side by side."""
        plan, state = self._stack.plan, self._stack.state
        engine = prisma.prepare(self._stack.say)
        limit_group(self._ledger)
        limit_group(self._stack.endpoints.ledger.url)
        litellm.migrate(plan.environment("litellm")["DATABASE_URL"], self._stack.say)
        programs = []
        for each in VARIANTS:
            config = self._folder / f"{each.instance}.yaml"
            config.write_text(yaml.safe_dump(self._config(each)), encoding="utf-8")
            environment = plan.environment(each.instance, self._environment(each))
            command = ["--config", str(config)]
            port = plan.ports[each.instance]
            program = litellm.program(each.instance, plan.service("litellm"), environment, command, port, engine)
            processes.start(state, program)
            programs.append(program)
        for program in programs:
            processes.wait_healthy(state, program)
        litellm.create_connection_key(self._keys)

    def _config(self, variant: Variant) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load((ROOT / "proxy_config" / "config.yaml").read_text(encoding="utf-8"))
        parameters = {"model": "openai/bench", "api_base": self._provider, "api_key": "none"}
        config["model_list"] = [{"model_name": "bench", "litellm_params": parameters}]
        config["litellm_settings"]["callbacks"] = CALLBACKS[variant.callbacks]
        if not variant.database:
            del config["general_settings"]["database_url"]
        return config

    def _environment(self, variant: Variant) -> dict[str, str | None]:
        changed: dict[str, str | None] = {"PYTHONPATH": str(self._folder / "modules")}
        if variant.callbacks != "ours":
            changed["LITELLM_WORKER_STARTUP_HOOKS"] = None
        if not variant.database:
            changed["DATABASE_URL"] = None
            changed["OWUI_BUDGET_DATABASE_URL"] = self._ledger
            changed["OWUI_BUDGET_CONNECTION_KEYS"] = self._keys.master_key
            changed["OWUI_BUDGET_SPOOL_DIR"] = str(self._folder / "spool")
        return changed

    def measure(self, variant: Variant, case: tuple[bool, int], figures: Figures) -> None:
        """Ask one variant for some seconds, and add what was seen."""
        pid = self._stack.pid(variant.instance)
        if pid is None:
            raise RuntimeError(f"{variant.name} has ended: {self._stack.log(variant.instance)}")
        before = cpu_seconds(pid)
        seen = self.load(variant, case, self._seconds)
        time.sleep(0.5)
        spent = cpu_seconds(pid) - before
        took = sorted(seen["took"])
        figures.per_second.append(len(took) / seen["elapsed"])
        figures.p50.append(statistics.median(took))
        figures.p99.append(took[min(len(took) - 1, len(took) * 99 // 100)])
        figures.cpu.append(spent / len(took))

    def load(self, variant: Variant, case: tuple[bool, int], seconds: float) -> dict[str, Any]:
        """Let so many clients ask for `seconds`."""
        stream, clients = case
        text = "Tell me a story about a budget. " * 4
        wish = {
            "port": self._stack.plan.ports[variant.instance],
            "seconds": seconds,
            "body": {"model": "bench", "stream": stream, "messages": [{"role": "user", "content": text}]},
            "clients": [self._headers(variant, number) for number in range(clients)],
        }
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            cwd=ROOT,
            input=json.dumps(wish),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=seconds + 180,
        )
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    def _headers(self, variant: Variant, number: int) -> dict[str, str]:
        now, user = int(time.time()), f"user-{number}"  # noqa: TID251 - a token's times are the real ones
        claims = {"sub": user, "role": "user", "iss": "open-webui", "iat": now, "exp": now + 600}
        return {
            "Authorization": f"Bearer {self._keys.openwebui_key if variant.database else self._keys.master_key}",
            "X-OpenWebUI-User-Jwt": jwt.encode(claims, self._keys.jwt_secret, algorithm="HS256"),
            "X-OpenWebUI-User-Id": user,
            "X-OpenWebUI-Group-Ids": GROUP,
            "X-OpenWebUI-Task": "",
            "X-OpenWebUI-Message-Id": "",
        }

    def check(self) -> None:
        """Make sure that ours counts and limits, and that the others run without it."""
        for each in VARIANTS:
            url = self._stack.plan.url(each.instance)
            body = {"model": "bench", "messages": [{"role": "user", "content": "hi"}]}
            headers = self._headers(each, 0)
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60, trust_env=False)
            answer.raise_for_status()
            limited = "daily" in answer.headers.get("ratelimit-policy", "")
            if limited != (each.callbacks == "ours"):
                raise RuntimeError(f"{each.name}: limits in force: {limited}; headers {dict(answer.headers)}")


def limit_group(url: str) -> None:
    """Put the limits in force."""
    engine = make_engine(LedgerSettings(database_url=SecretStr(url)))
    migrate.upgrade(engine)
    with engine.begin() as connection:
        if connection.execute(sa.select(sync_state.c.fence)).scalar() is None:
            connection.execute(sa.insert(sync_state).values(id=1, fence=0, lease_until=0, problems=[], cursor={}))
    group = StoredGroup(GROUP, "Bench", None, parse_limits(LIMITS))
    SqlPolicyStore(engine).write([PutGroup(group)], Fence(0))
    engine.dispose()


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def provider() -> Iterator[str]:
    """Run the fixed provider."""
    import socket  # noqa: PLC0415 - only to find a port

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.provider", str(port)], cwd=ROOT)
    try:
        listening = answers(f"http://127.0.0.1:{port}/")
        until = time.monotonic() + 20
        while not _asked(listening) and time.monotonic() < until:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(10)


def _asked(listening: Any) -> bool:
    try:
        return bool(listening())
    except OSError:
        return False


def case_name(case: tuple[bool, int]) -> str:
    """Name a case as tables do."""
    stream, clients = case
    return f"{'stream' if stream else 'whole answer'}, {clients} client{'s' if clients > 1 else ''}"


def run(rounds: int, seconds: float, say: Any = print) -> Found:
    """Measure everything, interleaved."""
    found: Found = {case_name(case): {each.name: Figures() for each in VARIANTS} for case in CASES}
    with (
        tempfile.TemporaryDirectory(prefix="owui-budget-bench-", ignore_cleanup_errors=True) as place,
        provider() as url,
    ):
        folder = Path(place)
        wishes = Wishes(services=("postgres", "provider"), replicas={"litellm": len(VARIANTS)})
        stack = Stack(folder / "stack", wishes, lambda line: say(f"  {line}"))
        try:
            stack.start(seeded=False)
            bench = Bench(stack, folder, url, seconds)
            say(f"  starting {len(VARIANTS)} LiteLLM processes")
            bench.start()
            bench.check()
            for each in VARIANTS:
                for case in CASES:
                    bench.load(each, case, 1.5)
            for number in range(rounds):
                for index, case in enumerate(CASES):
                    turn = (number + index) % len(VARIANTS)
                    for each in (*VARIANTS[turn:], *VARIANTS[:turn]):
                        bench.measure(each, case, found[case_name(case)][each.name])
                say(f"  round {number + 1} of {rounds} done")
        finally:
            stack.stop_all()
    return found


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio to the base: the median over rounds, its bootstrap interval, and the extremes."""

    median: float
    low: float
    high: float
    least: float
    most: float


def ratio(mine: list[float], base: list[float]) -> Ratio:
    """Compare round by round; the interval holds the median in 95 % of resamples."""
    rounds = [a / b for a, b in zip(mine, base, strict=True)]
    dice = random.Random(1)
    medians = sorted(statistics.median(dice.choices(rounds, k=len(rounds))) for _ in range(2_000))
    return Ratio(statistics.median(rounds), medians[50], medians[-51], min(rounds), max(rounds))


def table(found: Mapping[str, Mapping[str, Figures]]) -> str:
    """Return the figures as a markdown table, one per case."""
    lines = []
    for case, variants in found.items():
        lines += [
            f"### {case[0].upper()}{case[1:]}",
            "",
            "| variant | calls/s | p50 ms | p99 ms | CPU ms per call"
            " | CPU ratio (95 % interval; lowest to highest round) | calls/s ratio | p99 ratio |",
            "|---|---:|---:|---:|---:|---|---:|---:|",
        ]
        for each in VARIANTS:
            own, base = variants[each.name], variants[each.base]
            cells = [
                each.name if each.name != each.base else f"**{each.name}**",
                f"{statistics.median(own.per_second):.0f}",
                f"{statistics.median(own.p50) * 1e3:.1f}",
                f"{statistics.median(own.p99) * 1e3:.1f}",
                f"{statistics.median(own.cpu) * 1e3:.2f}",
            ]
            if own is base:
                cells += ["1", "1", "1"]
            else:
                cpu, rate, slow = (
                    ratio(getattr(own, name), getattr(base, name)) for name in ("cpu", "per_second", "p99")
                )
                cells += [
                    f"**{cpu.median:.3f}** ({cpu.low:.3f} to {cpu.high:.3f}; {cpu.least:.2f} to {cpu.most:.2f})",
                    f"{rate.median:.2f}",
                    f"{slow.median:.2f}",
                ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def arguments(description: str) -> argparse.ArgumentParser:
    """Return the options that this and `benchmarks.run` share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 rounds of 1.5 seconds: some minutes, wider intervals")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="per variant, case and round")
    return parser


def effort(wanted: argparse.Namespace) -> tuple[int, float]:
    """Return rounds and seconds."""
    rounds, seconds = (5, 1.5) if wanted.quick else (9, 4.0)
    return wanted.rounds or rounds, wanted.seconds or seconds


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--json", type=Path, help="write every measurement there")
    wanted = parser.parse_args()
    found = run(*effort(wanted))
    print(table(found))
    if wanted.json:
        wanted.json.write_text(json.dumps(to_json(found), indent=1), encoding="utf-8")


def to_json(found: Found) -> dict[str, Any]:
    """Return every measurement."""
    names = ("per_second", "p50", "p99", "cpu")
    return {
        case: {variant: {name: getattr(figures, name) for name in names} for variant, figures in variants.items()}
        for case, variants in found.items()
    }


if __name__ == "__main__":
    main()

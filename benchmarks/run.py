"""Measure everything and write docs/performance.md (`make bench`).

    python -m benchmarks.run [--quick] [--rounds 9] [--seconds 4] [--write docs/performance.md]

Nothing in that page is written by hand: another machine gives another page.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from benchmarks import proxy
from stack.state import ROOT

_GOALS = (("owui-budget on PostgreSQL", 1.10), ("owui-budget on SQLite", 1.05))
_PACKAGES = ("litellm", "uvicorn", "uvloop", "asyncpg", "sqlalchemy", "owui-budget")


def machine() -> list[str]:
    """Say what was measured on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory = next((int(line.split()[1]) for line in _read("/proc/meminfo") if line.startswith("MemTotal")), 0)
    postgres = subprocess.run(
        [ROOT / _postgres(), "--version"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return [
        f"- {os.cpu_count()} cores, {cpu}, {memory / 2**20:.0f} GB, {platform.platform()}",
        f"- Python {platform.python_version()}, {versions}, {postgres}",
    ]


def _postgres() -> Path:
    from stack.postgres import BIN  # noqa: PLC0415 - needs the package that the stack installs

    return BIN / "postgres"


def _read(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def ledger(rounds: int, seconds: float) -> str:
    """Measure reserve and settle alone, and return a table."""
    with tempfile.TemporaryDirectory(prefix="owui-budget-bench-") as folder:
        kept = Path(folder) / "ledger.json"
        subprocess.run(
            [sys.executable, "benchmarks/ledger.py", f"--rounds={rounds}", f"--seconds={seconds}", f"--json={kept}"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        found: dict[str, dict[str, list[float]]] = json.loads(kept.read_text(encoding="utf-8"))
    lines = [
        "| store | pairs/s (lowest to highest round) | CPU ms per pair (lowest to highest round) |",
        "|---|---|---|",
    ]
    for name, figures in sorted(found.items()):
        rate, cpu = figures["pairs_per_s"], figures["cpu_ms"]
        lines.append(
            f"| {' '.join(name.split())} | {statistics.median(rate):,.0f} ({min(rate):,.0f} to {max(rate):,.0f})"
            f" | {statistics.median(cpu):.2f} ({min(cpu):.2f} to {max(cpu):.2f}) |"
        )
    return "\n".join(lines)


def goals(found: proxy.Found) -> list[str]:
    """Say which goals were reached: CPU per call, the median ratio of each case."""
    lines = [
        "| goal: CPU per call, against the same base without callbacks | " + " | ".join(found) + " |",
        "|---|" + "---|" * len(found),
    ]
    bases = {each.name: each.base for each in proxy.VARIANTS}
    for name, goal in _GOALS:
        cells = []
        for variants in found.values():
            seen = proxy.ratio(variants[name].cpu, variants[bases[name]].cpu)
            verdict = "reached" if seen.high <= goal else "missed" if seen.low > goal else "within the noise"
            cells.append(f"{seen.median:.3f}: {verdict}")
        lines.append(f"| {name}: at most {goal:.2f} | " + " | ".join(cells) + " |")
    return lines


def page(found: proxy.Found, alone: str, effort: tuple[int, float], load: tuple[float, float]) -> str:
    """Return the document."""
    rounds, seconds = effort
    when = time.strftime("%Y-%m-%d %H:%M %Z")
    return "\n".join(
        [
            "# Performance",
            "",
            "For operators. Written by `make bench`; run it again for figures of your own machine.",
            "",
            f"- measured {when}, `python -m benchmarks.run {' '.join(_shown(sys.argv[1:]))}`".rstrip("` ") + "`",
            *machine(),
            f"- {rounds} rounds of {seconds:g} s per variant and case, interleaved; load average before"
            f" {load[0]:.1f}, after {load[1]:.1f}",
            "",
            "Trust ratios, not absolute figures: LiteLLM, PostgreSQL, the provider and the load share these cores with"
            " each other and with whatever else ran. A ratio compares two variants within one round; the interval says"
            " where its median lies in 95 % of resamples of the rounds. Where an interval contains 1, no difference was"
            " seen. Load averages far above the number of cores mean that the machine was busy with other things.",
            "",
            "## What a call costs",
            "",
            *goals(found),
            "",
            "The limits in force are a daily soft and hard limit, a monthly one, and a pool that all clients share. The"
            " provider answers at once, which no model does: in use, calls wait for the model, and what counts is CPU"
            " per call. CPU is that of LiteLLM's process.",
            "",
            proxy.table(found),
            "## Reserve and settle alone",
            "",
            "The ledger without LiteLLM, against the raw drivers, which do less: one window instead of four, no pools,"
            " no leases, no policy revision. Every commit is durable. Clients: 1 or 64, on counters of their own"
            " (distinct) or all on one (hot row).",
            "",
            alone,
            "",
        ]
    )


def main() -> None:
    """Measure, and write or print the page."""
    parser = proxy.arguments(__doc__ or "")
    parser.add_argument("--write", type=Path, default=ROOT / "docs" / "performance.md", help="the page to write")
    parser.add_argument("--json", type=Path, help="write every measurement of the proxies there")
    wanted = parser.parse_args()
    rounds, seconds = proxy.effort(wanted)
    before = os.getloadavg()[0]
    print("measuring reserve and settle alone", flush=True)
    alone = ledger(min(rounds, 5), 0.5 if wanted.quick else 1.5)
    print("measuring the proxies", flush=True)
    found = proxy.run(rounds, seconds)
    text = page(found, alone, (rounds, seconds), (before, os.getloadavg()[0]))
    if wanted.json:
        wanted.json.write_text(json.dumps(proxy.to_json(found), indent=1), encoding="utf-8")
    wanted.write.write_text(text, encoding="utf-8")
    print(f"written to {wanted.write}")


def _shown(arguments: list[str]) -> list[str]:
    """Leave out where the results went: paths of a machine are nobody's business."""
    shown, skip = [], False
    for argument in arguments:
        if not skip and not argument.startswith(("--write", "--json")):
            shown.append(argument)
        skip = argument in ("--write", "--json")
    return shown


if __name__ == "__main__":
    main()

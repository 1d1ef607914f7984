"""What an operator watches, in Prometheus' default registry: LiteLLM's own /metrics shows it where that is enabled."""

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("owui_budget_calls", "Admission decisions", ["route", "kind", "decision"])
ENDS = Counter("owui_budget_ends", "Ends of admitted calls", ["route", "ending"])
TOKENS = Counter("owui_budget_tokens", "Weighted tokens charged", ["route", "kind"])
RESERVE_SECONDS = Histogram(
    "owui_budget_reserve_seconds",
    "Seconds an admission waited for the ledger",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
LEDGER_UP = Gauge("owui_budget_ledger_up", "1 while the ledger answers")
LEDGER_UP.set(1)
LEDGER_ERRORS = Counter("owui_budget_ledger_errors", "Ledger operations that failed or timed out", ["operation"])
ADMITTED_OPEN = Counter("owui_budget_admitted_open", "Calls admitted unchecked because the ledger was out of reach")
SPOOL_DEPTH = Gauge("owui_budget_spool_depth", "Usage records waiting in the spool")
SPOOL_BROKEN = Gauge("owui_budget_spool_broken", "1 when the spool cannot be written and admission is closed")
IN_FLIGHT = Gauge("owui_budget_in_flight", "Admitted calls that have not ended")
POLICY_REVISION = Gauge("owui_budget_policy_revision", "Policy revision in use")

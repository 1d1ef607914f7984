"""The worker's start: `LITELLM_WORKER_STARTUP_HOOKS=owui_budget_hooks.startup:start`.

Runs in every worker inside its event loop, before the configuration is loaded; an exception here stops the worker, so
a misconfigured proxy never serves. LiteLLM's own shutdown waits for no callback, so ours is put around it.
"""

import logging
import sys
from typing import Any

from owui_budget.errors import BudgetError
from owui_budget_hooks.request_scope import RequestScope
from owui_budget_hooks.runtime import Runtime, current_runtime

log = logging.getLogger("owui_budget.startup")


async def start() -> None:
    """Start budgets in this worker, and make its shutdown wait for the ends of calls."""
    _show_our_log_lines()
    try:
        runtime = await current_runtime()
    except BudgetError as error:
        log.critical("token budgets cannot start: %s", error)
        raise
    _see_requests_from_outside()
    _drain_before_shutdown(runtime)


def _see_requests_from_outside() -> None:
    from litellm.proxy import proxy_server  # noqa: PLC0415 - LiteLLM starts first

    # The application is running by now and takes no further middleware, so the finished stack is wrapped.
    stack = proxy_server.app.middleware_stack or proxy_server.app.build_middleware_stack()
    if not isinstance(stack, RequestScope):
        proxy_server.app.middleware_stack = RequestScope(stack)


def _drain_before_shutdown(runtime: Runtime) -> None:
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER  # noqa: PLC0415 - LiteLLM starts first
    from litellm.proxy import proxy_server  # noqa: PLC0415

    original = proxy_server.proxy_shutdown_event

    async def shutdown(*arguments: Any, **named: Any) -> Any:
        await runtime.stop(GLOBAL_LOGGING_WORKER.flush)
        return await original(*arguments, **named)

    proxy_server.proxy_shutdown_event = shutdown


def _show_our_log_lines() -> None:
    """Give our logger a handler of its own: LiteLLM configures only its own loggers, and warnings must be seen."""
    logger = logging.getLogger("owui_budget")
    if logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False

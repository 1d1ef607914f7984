"""What must be true of the running proxy, or a user could walk round his limits.

Checked once LiteLLM has loaded its configuration. A problem closes admission: a limit that can be forged is none.
"""

from typing import Any

from owui_budget.config import HooksSettings

_ENFORCING_HOOKS = (
    "async_pre_call_hook",
    "async_post_call_response_headers_hook",
    "async_post_call_streaming_iterator_hook",
)


def problems(settings: HooksSettings) -> tuple[str, ...]:
    """Return what is wrong, each with its way out; empty while LiteLLM has not finished loading."""
    import litellm  # noqa: PLC0415 - the proxy imports our callback while it is itself being imported
    from litellm.proxy import proxy_server  # noqa: PLC0415

    callbacks = [each for each in litellm.callbacks if _is_ours(each)]
    if not callbacks:
        return ()
    found = [
        *_hook_problems(callbacks),
        *_mapping_problems(proxy_server.general_settings),
        *_setting_problems(litellm, settings),
    ]
    return tuple(found)


def is_loaded() -> bool:
    """Whether LiteLLM has loaded its callbacks, ours among them."""
    import litellm  # noqa: PLC0415

    return any(_is_ours(each) for each in litellm.callbacks)


def make_sure_that_calls_are_refused() -> None:
    """Register the callback itself beside one whose admission LiteLLM skips: somebody has to answer 503."""
    import litellm  # noqa: PLC0415

    from owui_budget_hooks.callback import budget  # noqa: PLC0415 - the callback imports the runtime, which imports us

    if not any(_is_ours(each) and _ENFORCING_HOOKS[0] in vars(type(each)) for each in litellm.callbacks):
        litellm.callbacks.append(budget)


def _is_ours(callback: object) -> bool:
    return any(each.__name__ == "BudgetCallback" for each in type(callback).__mro__)


def _hook_problems(callbacks: list[Any]) -> list[str]:
    found = []
    if len(callbacks) > 1:
        found.append(
            "the budget callback is registered more than once (a copy of its module beside config.yaml?);"
            " keep one `owui_budget_hooks.callback.budget` in litellm_settings.callbacks"
        )
    for callback in callbacks:
        missing = [name for name in _ENFORCING_HOOKS if name not in vars(type(callback))]
        if missing:
            found.append(
                f"LiteLLM skips hooks that a class inherits, and {type(callback).__name__} inherits {missing[0]};"
                " register owui_budget_hooks.callback.budget itself"
            )
    return found


def _mapping_problems(general_settings: dict[str, Any]) -> list[str]:
    mappings = general_settings.get("user_header_mappings") or []
    entries = mappings if isinstance(mappings, list) else [mappings]
    if any(isinstance(each, dict) and each.get("litellm_user_role") == "internal_user" for each in entries):
        return [
            "general_settings.user_header_mappings maps a header to internal_user, so any client can name itself;"
            " use litellm_user_role: customer"
        ]
    return []


def _setting_problems(litellm: Any, settings: HooksSettings) -> list[str]:
    found = []
    if getattr(litellm, "disable_streaming_logging", False) is True:
        found.append("litellm_settings.disable_streaming_logging is on, so streams would not be counted; remove it")
    if not settings.connection_keys and settings.jwt_secret is not None:
        found.append(
            "OWUI_BUDGET_JWT_SECRET is set but OWUI_BUDGET_CONNECTION_KEYS is not, so no call would be counted for its"
            " user; name the key Open WebUI's connection uses"
        )
    return found

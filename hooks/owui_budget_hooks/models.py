"""Which models may answer a request: the one asked for, and what the operator configured behind it."""

from collections.abc import Iterable, Mapping
from typing import Any

_FALLBACK_SETTINGS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


def models_that_may_answer(model: str) -> frozenset[str]:
    """Return `model`, the group it is an alias of, and every fallback configured for either.

    Read from the running router at each call: models and fallbacks can change while the proxy runs.
    """
    router = _router()
    if router is None:
        return frozenset({model})
    names = {model}
    alias = (getattr(router, "model_group_alias", None) or {}).get(model)
    if isinstance(alias, Mapping):
        alias = alias.get("model")
    if isinstance(alias, str):
        names.add(alias)
    found = set(names)
    for setting in _FALLBACK_SETTINGS:
        found.update(_configured(getattr(router, setting, None) or [], names))
    return frozenset(found)


def _configured(entries: Iterable[Any], names: set[str]) -> Iterable[str]:
    for entry in entries:
        if not isinstance(entry, Mapping):
            continue
        for source, targets in entry.items():
            if source in names or source == "*":
                yield from (target for target in targets if isinstance(target, str))


def _router() -> Any:
    # Imported late: the proxy imports our callback while it is itself being imported.
    from litellm.proxy import proxy_server  # noqa: PLC0415

    return proxy_server.llm_router

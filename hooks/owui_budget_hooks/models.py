"""Which models may answer a request: the one asked for, and what the operator configured behind it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_FALLBACK_SETTINGS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


def models_that_may_answer(data: Mapping[str, Any]) -> frozenset[str]:
    """Return the model asked for, what it is an alias of, and every fallback configured for any of these.

    Read from the running router at each call: models and fallbacks can change while the proxy runs. LiteLLM keeps a
    key's or team's own fallbacks in the request.
    """
    model = str(data.get("model") or "")
    router = _router()
    own = data.get("router_settings_override")
    sources = [getattr(router, setting, None) for setting in _FALLBACK_SETTINGS]
    if isinstance(own, Mapping):
        sources += [own.get(setting) for setting in _FALLBACK_SETTINGS]
    entries = [entry for source in sources if isinstance(source, list) for entry in source]
    found: set[str] = set()
    waiting = [model]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting.append(serving_model(name))
        waiting.extend(_configured(entries, name))
    return frozenset(found)


def serving_model(name: str) -> str:
    """Return the model group behind `name`: weights are by group, and a client may name an alias or a deployment id."""
    router = _router()
    if router is None or not name:
        return name
    alias = (getattr(router, "model_group_alias", None) or {}).get(name)
    if isinstance(alias, Mapping):
        alias = alias.get("model")
    if isinstance(alias, str):
        return alias
    if name in router.model_names:
        return name
    deployment = router.get_deployment(model_id=name)
    return name if deployment is None else str(deployment.model_name)


def _configured(entries: Iterable[Any], name: str) -> Iterator[str]:
    for entry in entries:
        for source, targets in entry.items() if isinstance(entry, Mapping) else ():
            if source in (name, "*") and isinstance(targets, list):
                for target in targets:
                    chosen = target.get("model") if isinstance(target, Mapping) else target
                    if isinstance(chosen, str):
                        yield chosen


def _router() -> Any:
    # Imported late: the proxy imports our callback while it is itself being imported.
    from litellm.proxy import proxy_server  # noqa: PLC0415

    return proxy_server.llm_router

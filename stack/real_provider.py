"""LiteLLM's configuration for a real provider: the same file, with the provider's own models for the simulated ones.

With Docker an operator writes the models into proxy_config/config.yaml; `make up` asks the provider which it has.
"""

import shutil
from pathlib import Path
from typing import Any

import httpx
import yaml

from stack.errors import StackError


def models(base_url: str, api_key: str) -> list[str]:
    """Return the names of the provider's models.

    Raises:
        StackError: it cannot be reached, refuses the key, or lists nothing.

    """
    url = f"{base_url.rstrip('/')}/models"
    way_out = "Check UPSTREAM_BASE_URL (with its /v1) and UPSTREAM_API_KEY, or unset both for a simulated provider."
    try:
        answer = httpx.get(url, headers={"Authorization": f"Bearer {api_key}"}, timeout=20)
    except httpx.HTTPError as error:
        msg = f"The model provider at {url} cannot be reached: {error}. {way_out}"
        raise StackError(msg) from error
    if answer.is_error:
        msg = f"The model provider answered {answer.status_code} at {url}: {answer.text[:300]}. {way_out}"
        raise StackError(msg)
    try:
        names = sorted({str(model["id"]) for model in answer.json()["data"]})
    except (ValueError, KeyError, TypeError) as error:
        msg = f"The answer of {url} is no list of models: {answer.text[:300]}. {way_out}"
        raise StackError(msg) from error
    if not names:
        msg = f"The model provider at {url} lists no models. {way_out}"
        raise StackError(msg)
    return names


def configure(source: Path, target: Path, names: list[str]) -> None:
    """Write a copy of the configuration folder whose models are `names`."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*.yaml"):
        shutil.copyfile(path, target / path.name)
    config: dict[str, Any] = yaml.safe_load((source / "config.yaml").read_text(encoding="utf-8"))
    way = {"api_base": "os.environ/UPSTREAM_BASE_URL", "api_key": "os.environ/UPSTREAM_API_KEY"}
    config["model_list"] = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", **way}} for name in names
    ]
    (target / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

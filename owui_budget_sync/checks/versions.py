"""Which versions of both programs this release was made for and tried on."""

import re
from collections.abc import Sequence
from typing import Final

from owui_budget_sync.checks.findings import Finding, Notes

OPENWEBUI: Final = (0, 12)
OPENWEBUI_TRIED: Final = "0.12.4"
LITELLM: Final = (1, 106)
LITELLM_TRIED: Final = "1.106.2"
LITELLM_COMPROMISED: Final = (1, 107, 0)


def openwebui(notes: Notes, version: str) -> Finding:
    """Judge Open WebUI's version."""
    if _parts(version)[:2] == OPENWEBUI:
        return notes.ok(f"version {version}")
    return notes.warning(
        f"Open WebUI is {version}; this release was made for 0.12.x",
        "its headers, its API or its group editor may differ, so that calls are not counted for their user",
        f"run {OPENWEBUI_TRIED}, or try your version in a test installation first",
    )


def litellm(notes: Notes, version: str) -> Finding:
    """Judge LiteLLM's version."""
    parts = _parts(version)
    if parts[:3] == LITELLM_COMPROMISED:
        return notes.error(
            "LiteLLM is 1.107.0, a compromised release",
            "it must be assumed to have given away every secret of its environment",
            f"stop it now, install {LITELLM_TRIED}, and replace every key and password that it could read",
        )
    if parts[:2] == LITELLM:
        return notes.ok(f"version {version}")
    return notes.warning(
        f"LiteLLM is {version}; this release was made for 1.106.x",
        "the hooks rely on how LiteLLM calls them, which differs between versions without notice",
        f"run {LITELLM_TRIED}, or run this project's tests against your version first",
    )


def _parts(version: str) -> Sequence[int]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])

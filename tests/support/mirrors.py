"""A LiteLLM for the mirroring's tests, fake or real."""

from dataclasses import dataclass

from pydantic import SecretStr

from owui_budget_sync.litellm.client import LitellmAdmin
from owui_budget_sync.litellm.mirror import LitellmMirror
from owui_budget_sync.litellm.writer import LitellmWriter


@dataclass
class Proxy:
    """A LiteLLM to test on, and ids that no other test on the same one uses."""

    admin: LitellmAdmin
    mirror: LitellmMirror
    writer: LitellmWriter
    key: SecretStr
    mark: str

    def id(self, name: str) -> str:
        return f"{name}-{self.mark}"

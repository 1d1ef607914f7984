"""The simulated model provider: OpenAI's and Anthropic's HTTP interfaces with made-up answers and honest token counts.

It is labelled as simulated in model names and answers. `GET /_calls` returns every call with its true usage, so that
tests compare what was counted with what the provider itself counted; `DELETE /_calls` forgets them. What a test wants
to go wrong it writes into the prompt or the model's name: see `stack.provider.wishes`.
"""

import sys

from stack.http import answers
from stack.processes import Program
from stack.rewrite import LOOPBACK
from stack.state import ROOT

MODELS = (
    "sim-gpt",
    "sim-gpt-mini",
    "sim-free",
    "sim-claude",
    "sim-embed",
    "sim-image",
    "sim-tts",
    "sim-stt",
    "sim-rerank",
    "sim-moderation",
)


def program(port: int) -> Program:
    """Return the provider's process."""
    argv = [sys.executable, "-m", "stack.provider", str(port)]
    return Program("provider", argv, {"PYTHONPATH": str(ROOT)}, answers(f"http://{LOOPBACK}:{port}/health"))

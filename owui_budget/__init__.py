"""Token budgets for Open WebUI groups: the house shared by the LiteLLM hooks and the sync job.

Imports neither `owui_budget_hooks` nor `owui_budget_sync`.
"""

from importlib.metadata import version

__version__ = version("owui-budget")

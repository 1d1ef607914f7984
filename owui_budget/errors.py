"""The errors every room may raise, each saying whether a second try can help.

A `TransientError` may pass by itself (a database that restarts, a service that answers 503). A `FinalError` needs a
person: its text names the thing, the reason and the way out.
"""


class BudgetError(Exception):
    """Base of every error this project raises on purpose."""


class TransientError(BudgetError):
    """The same call may succeed later; callers retry with backoff or follow their failure policy."""


class FinalError(BudgetError):
    """The same call will fail again until somebody changes something."""


class ConfigurationError(FinalError):
    """A setting is missing, misspelt or contradictory."""


class LedgerUnavailableError(TransientError):
    """The ledger could not be reached or did not answer in time."""


class LedgerBusyError(FinalError):
    """Another process already serves the embedded (SQLite) ledger."""


class SchemaError(FinalError):
    """The database schema is not the one this version needs."""


class SourceUnavailableError(TransientError):
    """Open WebUI could not be read: down, slow, or answering 5xx."""


class SourceRefusedError(FinalError):
    """Open WebUI answered, but refused us (an expired or non-admin key) or answered nonsense."""


class TargetUnavailableError(TransientError):
    """LiteLLM's admin API could not be reached: down, slow, or answering 5xx."""


class TargetRefusedError(FinalError):
    """LiteLLM's admin API answered, but refused a request or answered nonsense."""

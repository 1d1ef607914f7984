"""The whole stack on one machine without Docker: for `make up`, the tests and the benchmarks. Not part of the product.

`docker-compose.yml` stays the only description of the services; this package runs what it describes. Tests use::

    import stack

    with stack.running(tmp_path / "stack", services=("postgres", "litellm")) as running:
        running.endpoints.litellm.url
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stack.endpoints import Endpoints
    from stack.run import Stack, running

__all__ = ["Endpoints", "Stack", "running"]

_HOMES = {"Endpoints": "stack.endpoints", "Stack": "stack.run", "running": "stack.run"}


def __getattr__(name: str) -> Any:
    """Import on first use: `stack.env_file` has to run on a bare Python, before anything is installed."""
    if name not in _HOMES:
        msg = f"module 'stack' has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module  # noqa: PLC0415 - see above

    return getattr(import_module(_HOMES[name]), name)

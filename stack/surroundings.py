"""The user's shell, as far as the stack looks at it: certificates, PATH, a real model provider, mirrors."""

import os
from collections.abc import Mapping


def shell() -> Mapping[str, str]:
    """Return the variables of the shell that started us."""
    return os.environ  # noqa: TID251 - the ban is for the product, which has settings classes


def path() -> str:
    """Return the folders in which programs are looked up."""
    return shell().get("PATH", "/usr/local/bin:/usr/bin:/bin")

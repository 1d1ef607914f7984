"""Wiring from the environment: where things are and which secrets open them. Policy is in limits.yaml.

One class per program, so that each names only what it needs. Misspelt `OWUI_BUDGET_*` names are refused:
pydantic-settings would ignore them in silence.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from owui_budget.errors import ConfigurationError
from owui_budget.limits_file import Limits, describe, load_limits

PREFIX = "OWUI_BUDGET_"
DEFAULT_DATABASE_URL = "sqlite:///owui-budget.db"

S = TypeVar("S", bound="LedgerSettings")


def _database(url: SecretStr) -> SecretStr:
    scheme, separator, _ = url.get_secret_value().partition("://")
    if not separator or scheme.partition("+")[0] not in {"sqlite", "postgresql", "postgres"}:
        msg = "must start with sqlite:/// or postgresql://"
        raise ValueError(msg)
    return url


class LedgerSettings(BaseSettings):
    """What every program needs: the ledger's database and limits.yaml."""

    # Without hide_input_in_errors pydantic quotes an unusable secret in the error that ours is raised from.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    database_url: SecretStr = SecretStr(DEFAULT_DATABASE_URL)
    """SQLAlchemy URL: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`."""
    database_schema: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = "owui_budget"
    """PostgreSQL schema of our tables; SQLite has none."""
    limits_file: Path | None = None

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: SecretStr) -> SecretStr:
        return _database(value)

    def limits(self) -> Limits:
        """Read limits.yaml.

        Raises:
            ConfigurationError: the file is unusable.

        """
        return load_limits(self.limits_file)


class ConnectionSettings(LedgerSettings):
    """What proves that a call comes from Open WebUI, and where unwritten usage is kept."""

    jwt_secret: SecretStr | None = None
    """Open WebUI's FORWARD_USER_INFO_HEADER_JWT_SECRET. Without it, plain user headers count on connection keys."""
    connection_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """The LiteLLM keys that Open WebUI connections use, comma separated. Only on them are its headers believed."""
    spool_dir: Path = Path("owui-budget-spool")
    """Folder for usage that could not be written; must survive a restart."""

    @field_validator("connection_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("jwt_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < 32:  # noqa: PLR2004
            msg = "must be at least 32 bytes long (RFC 7518, section 3.2: HS256 keys)"
            raise ValueError(msg)
        return value


class HooksSettings(ConnectionSettings):
    """What the LiteLLM process needs."""


class SyncSettings(ConnectionSettings):
    """What the sync job and the command line need."""

    openwebui_url: str | None = None
    openwebui_api_key: SecretStr | None = None
    openwebui_admin_email: str | None = None
    openwebui_admin_password: SecretStr | None = None
    openwebui_database_url: SecretStr | None = None
    """Read Open WebUI's database instead of its API (large installations); read-only rights suffice."""

    litellm_url: str | None = None
    litellm_master_key: SecretStr | None = None

    service_host: str = "127.0.0.1"
    service_port: Annotated[int, Field(ge=1, le=65_535)] = 8090
    trigger_secret: SecretStr | None = None
    """Shared with Open WebUI's event function, which signs its triggers with it."""
    service_url: str | None = None
    """Where Open WebUI reaches this service; with it `run` installs the event function in Open WebUI."""
    mirror_rate: Annotated[float, Field(gt=0, le=1_000)] = 20.0
    """Requests per second to LiteLLM's admin API while teams, budgets and customers are mirrored."""
    sync_interval: Annotated[float, Field(ge=1, le=3_600)] = 30.0
    """Seconds between two looks at Open WebUI's groups."""
    users_interval: Annotated[float, Field(ge=10, le=86_400)] = 900.0
    """Seconds between two reads of all users."""
    safety_threshold: Annotated[int, Field(ge=0, le=100)] = 30
    """Percentage of groups or members that may disappear in one sync before it asks for --accept."""

    @field_validator("openwebui_database_url")
    @classmethod
    def _known_source(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else _database(value)

    @field_validator("openwebui_url", "litellm_url", "service_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            msg = "must start with http:// or https://"
            raise ValueError(msg)
        return value.rstrip("/") if value else value


def load_hooks_settings() -> HooksSettings:
    """Read the environment for the LiteLLM process.

    Raises:
        ConfigurationError: a value is unusable, or an `OWUI_BUDGET_*` name is unknown.

    """
    return _load(HooksSettings)


def load_sync_settings() -> SyncSettings:
    """Read the environment for the sync job and the command line.

    Raises:
        ConfigurationError: a value is unusable, or an `OWUI_BUDGET_*` name is unknown.

    """
    return _load(SyncSettings)


def known_names() -> frozenset[str]:
    """All `OWUI_BUDGET_*` names that any program reads."""
    fields = {**HooksSettings.model_fields, **SyncSettings.model_fields}
    return frozenset(f"{PREFIX}{name.upper()}" for name in fields)


def unknown_names(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return `OWUI_BUDGET_*` names in `environment` that nothing reads, each with the nearest known name if any."""
    # Compared without the prefix, which alone would make any two names look alike.
    known = {name.removeprefix(PREFIX) for name in known_names()}
    unknown: dict[str, str | None] = {}
    for name in sorted(environment):
        rest = name.upper().removeprefix(PREFIX)
        if name.upper().startswith(PREFIX) and rest not in known:
            near = difflib.get_close_matches(rest, sorted(known), n=1)
            unknown[name] = PREFIX + near[0] if near else None
    return unknown


def _load(settings: type[S]) -> S:
    misspelt = unknown_names(os.environ)  # noqa: TID251 - this is the one place that may look
    if misspelt:
        lines = [
            f"{name}: unknown name" + (f"; did you mean {near}?" if near else "") for name, near in misspelt.items()
        ]
        msg = "environment:\n  " + "\n  ".join(lines)
        raise ConfigurationError(msg)
    try:
        return settings()
    except ValidationError as error:
        text = describe(error, "environment")
        for field in settings.model_fields:
            text = text.replace(f"\n  {field}:", f"\n  {PREFIX}{field.upper()}:")
        raise ConfigurationError(text) from error

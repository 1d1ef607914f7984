"""Environment and limits.yaml: every mistake at once, where the programs stop at the first kind."""

from pydantic import ValidationError

from owui_budget.config import PREFIX, SyncSettings, load_sync_settings
from owui_budget.errors import ConfigurationError
from owui_budget.limits_file import Limits, describe
from owui_budget_sync.checks.findings import Area, Finding, Notes

_NOTES = Notes(Area.SETTINGS)
_REFUSED = "every program of ours refuses to start with it"


def read_settings() -> tuple[SyncSettings | None, list[Finding]]:
    """Return the settings, None where they cannot be used at all, and what is wrong with them."""
    try:
        return load_sync_settings(), [_NOTES.ok("environment")]
    except ConfigurationError as error:
        found = [_fault(each) for each in _lines(error)]
    misspelt = all("unknown name" in each.what for each in found)
    try:
        # Beside misspelt names there may be values nobody can use: both belong into one report.
        settings = SyncSettings()
    except ValidationError as error:
        if misspelt:
            found += [_fault(each) for each in describe(error, "").splitlines()[1:]]
        return None, found
    return settings, found


def read_limits(settings: SyncSettings) -> tuple[Limits | None, list[Finding]]:
    """Return limits.yaml, None where it cannot be used, and what is wrong with it."""
    if settings.limits_file is None:
        note = _NOTES.skipped("limits.yaml", "OWUI_BUDGET_LIMITS_FILE is not set, so every default holds")
        return settings.limits(), [note]
    try:
        return settings.limits(), [_NOTES.ok(f"{settings.limits_file}")]
    except ConfigurationError as error:
        name = settings.limits_file.name
        fix = f"mend {settings.limits_file} (docs/configuration.md lists every name) and restart the programs"
        lines = _lines(error)
        return None, [_NOTES.error(f"{name}: {each.strip()}", _REFUSED, fix) for each in lines]


def wiring(settings: SyncSettings) -> list[Finding]:
    """Return what the settings lack for the whole to work."""
    found = []
    if not settings.connection_keys:
        found.append(
            _NOTES.error(
                "OWUI_BUDGET_CONNECTION_KEYS is not set",
                "Open WebUI's headers are believed on these keys alone, so no chat would be counted for its user",
                "set it, for LiteLLM and sync alike, to the key of Open WebUI's connection",
            )
        )
    if settings.connection_keys and settings.litellm_master_key in settings.connection_keys:
        found.append(
            _NOTES.error(
                "OWUI_BUDGET_CONNECTION_KEYS holds LiteLLM's master key",
                "Open WebUI would hold the key that opens LiteLLM's administration",
                "give the connection a key of its own; sync creates it in LiteLLM",
            )
        )
    return found


def _lines(error: ConfigurationError) -> list[str]:
    """Take an error apart into its faults: one indented line each, under a line that names the place."""
    text = str(error)
    faults = [each for each in text.splitlines()[1:] if each.startswith("  ") and each.strip()]
    return faults or [text]


def _fault(line: str) -> Finding:
    text = line.strip()
    name, colon, rest = text.partition(":")
    if colon and not name.startswith(PREFIX) and name in SyncSettings.model_fields:
        text = f"{PREFIX}{name.upper()}:{rest}"
    return _NOTES.error(
        text, _REFUSED, "mend it in the environment (.env) and restart; docs/configuration.md lists all"
    )

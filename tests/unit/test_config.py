"""Settings from the environment: misspelt names, unusable values, secrets that stay secret, and their document."""

import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from owui_budget.config import (
    PREFIX,
    HooksSettings,
    LedgerSettings,
    SyncSettings,
    known_names,
    load_hooks_settings,
    load_sync_settings,
    unknown_names,
)
from owui_budget.errors import ConfigurationError

DOCUMENT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
SECRET = "hunter2"
LONG_SECRET = "hunter2-" * 5


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Start without any of our names; the returned function sets some."""
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(PREFIX + name, value)

    return put


def fault(load: Callable[[], Any]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load()
    return str(caught.value).removeprefix("environment:\n  ")


# --- values -------------------------------------------------------------------------------------------------------


def test_nothing_is_required() -> None:
    hooks, sync = load_hooks_settings(), load_sync_settings()
    assert hooks.database_url.get_secret_value() == "sqlite:///owui-budget.db"
    assert (hooks.connection_keys, hooks.jwt_secret, hooks.limits_file) == ((), None, None)
    assert (sync.service_host, sync.service_port) == ("127.0.0.1", 8090)
    assert hooks.limits() == sync.limits()


def test_each_program_may_be_given_the_variables_of_the_other(environment: Callable[..., None]) -> None:
    environment(LITELLM_MASTER_KEY="sk-1", JWT_SECRET=LONG_SECRET)
    assert load_hooks_settings().jwt_secret == SecretStr(LONG_SECRET)
    assert load_sync_settings().litellm_master_key == SecretStr("sk-1")


def test_an_empty_variable_counts_as_unset(environment: Callable[..., None]) -> None:
    environment(**{name.removeprefix(PREFIX): "" for name in known_names()})
    assert load_sync_settings() == SyncSettings()


@pytest.mark.parametrize("text", ["a,b", " a , b ", ",a,,b,", "a,b\n"])
def test_keys_are_separated_by_commas(environment: Callable[..., None], text: str) -> None:
    environment(CONNECTION_KEYS=text)
    assert [key.get_secret_value() for key in load_hooks_settings().connection_keys] == ["a", "b"]


@pytest.mark.parametrize("name", ["OPENWEBUI_URL", "LITELLM_URL"])
def test_addresses_lose_their_last_slash(environment: Callable[..., None], name: str) -> None:
    environment(**{name: "http://host:1/base//"})
    assert getattr(load_sync_settings(), name.lower()) == "http://host:1/base"


def test_names_may_be_written_in_small_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("owui_budget_service_port", "9000")
    assert load_sync_settings().service_port == 9000


def test_limits_are_read_from_the_file(environment: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text("lease: 60")
    environment(LIMITS_FILE=str(tmp_path / "limits.yaml"))
    assert load_hooks_settings().limits().lease == 60
    environment(LIMITS_FILE=str(tmp_path / "gone.yaml"))
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_hooks_settings().limits()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_sync_settings().service_port = 1


@pytest.mark.parametrize(
    "url",
    ["sqlite:///a.db", "sqlite:////a/b.db", "postgresql://u:p@h:5432/d", "postgres://h/d", "postgresql+asyncpg://h/d"],
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "OPENWEBUI_DATABASE_URL"])
def test_databases(environment: Callable[..., None], name: str, url: str) -> None:
    environment(**{name: url})
    assert getattr(load_sync_settings(), name.lower()).get_secret_value() == url


MISTAKES = [
    ("DATABASE_URL", f"mysql://root:{SECRET}@host/db", "must start with sqlite:/// or postgresql://"),
    ("DATABASE_URL", SECRET, "must start with sqlite:/// or postgresql://"),
    ("DATABASE_URL", "sqlite", "must start with sqlite:/// or postgresql://"),
    ("OPENWEBUI_DATABASE_URL", f"mysql://root:{SECRET}@host/db", "must start with sqlite:/// or postgresql://"),
    ("JWT_SECRET", SECRET, "must be at least 32 bytes long (RFC 7518, section 3.2: HS256 keys)"),
    ("JWT_SECRET", "x" * 31, "must be at least 32 bytes long (RFC 7518, section 3.2: HS256 keys)"),
    ("DATABASE_SCHEMA", "public; drop", "String should match pattern '^[a-z_][a-z0-9_]{0,62}$'"),
    ("DATABASE_SCHEMA", "Public", "String should match pattern '^[a-z_][a-z0-9_]{0,62}$'"),
    ("DATABASE_SCHEMA", "a" * 64, "String should match pattern '^[a-z_][a-z0-9_]{0,62}$'"),
    ("OPENWEBUI_URL", "openwebui:8080", "must start with http:// or https://"),
    ("LITELLM_URL", "ftp://litellm", "must start with http:// or https://"),
    ("SERVICE_PORT", "0", "Input should be greater than or equal to 1"),
    ("SERVICE_PORT", "65536", "Input should be less than or equal to 65535"),
    ("SERVICE_PORT", "http", "Input should be a valid integer, unable to parse string as an integer"),
    ("SYNC_INTERVAL", "0.5", "Input should be greater than or equal to 1"),
    ("SYNC_INTERVAL", "nan", "Input should be less than or equal to 3600"),
    ("SYNC_INTERVAL", "inf", "Input should be less than or equal to 3600"),
    ("USERS_INTERVAL", "9", "Input should be greater than or equal to 10"),
    ("SAFETY_THRESHOLD", "101", "Input should be less than or equal to 100"),
]


@pytest.mark.parametrize(("name", "value", "said"), MISTAKES)
def test_a_mistake_is_named_by_its_variable(environment: Callable[..., None], name: str, value: str, said: str) -> None:
    environment(**{name: value})
    assert fault(load_sync_settings) == f"{PREFIX}{name}: {said}"


def test_all_mistakes_are_named_at_once(environment: Callable[..., None]) -> None:
    environment(SERVICE_PORT="0", SYNC_INTERVAL="0", JWT_SECRET="x")
    assert len(fault(load_sync_settings).splitlines()) == 3


# --- misspelt names -----------------------------------------------------------------------------------------------

MISSPELT = [
    ("OWUI_BUDGET_JWT_SECRT", "OWUI_BUDGET_JWT_SECRET"),
    ("OWUI_BUDGET_CONNECTION_KEY", "OWUI_BUDGET_CONNECTION_KEYS"),
    ("OWUI_BUDGET_DATABASEURL", "OWUI_BUDGET_DATABASE_URL"),
    ("OWUI_BUDGET_LIMIT_FILE", "OWUI_BUDGET_LIMITS_FILE"),
    ("owui_budget_spool_dirr", "OWUI_BUDGET_SPOOL_DIR"),
    ("OWUI_BUDGET_XYZZY", None),
    ("OWUI_BUDGET_", None),
]


@pytest.mark.parametrize(("name", "meant"), MISSPELT)
@pytest.mark.parametrize("load", [load_hooks_settings, load_sync_settings])
def test_a_misspelt_name_is_refused_with_what_was_meant(
    load: Callable[[], Any], name: str, meant: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, SECRET)
    said = f"{name}: unknown name" + (f"; did you mean {meant}?" if meant else "")
    assert fault(load) == said


def test_names_of_other_programs_are_theirs() -> None:
    assert unknown_names({"OPENAI_API_KEY": "", "OWUI_BUDGETS": "", "PATH": "", "OWUI_BUDGET_LITELLM_URL": ""}) == {}


# --- secrets ------------------------------------------------------------------------------------------------------

SECRETS = {
    "DATABASE_URL": f"postgresql://u:{LONG_SECRET}@h/d",
    "JWT_SECRET": LONG_SECRET,
    "CONNECTION_KEYS": f"{LONG_SECRET},sk-{LONG_SECRET}",
    "OPENWEBUI_API_KEY": LONG_SECRET,
    "OPENWEBUI_ADMIN_PASSWORD": LONG_SECRET,
    "OPENWEBUI_DATABASE_URL": f"postgresql://u:{LONG_SECRET}@h/d",
    "LITELLM_MASTER_KEY": LONG_SECRET,
    "TRIGGER_SECRET": LONG_SECRET,
}


def test_every_secret_is_tested_here() -> None:
    secret = {name.upper() for name, field in SyncSettings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert secret == SECRETS.keys()
    assert not {name for name in SyncSettings.model_fields if name.upper() not in SECRETS} & {
        name for name in SyncSettings.model_fields if re.search("key|secret|password", name)
    }


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_in_no_text(environment: Callable[..., None], name: str) -> None:
    environment(**{name: SECRETS[name]})
    settings = load_sync_settings()
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in text


@pytest.mark.parametrize("name", [name for name, value, _ in MISTAKES if SECRET in value])
def test_an_unusable_secret_is_in_no_traceback(environment: Callable[..., None], name: str) -> None:
    environment(**{name: f"mysql://{SECRET}" if "URL" in name else SECRET})
    with pytest.raises(ConfigurationError) as caught:
        load_sync_settings()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


# --- docs/configuration.md ----------------------------------------------------------------------------------------


def documented() -> dict[str, tuple[str, str, str]]:
    """Name → read by, default, meaning."""
    rows = re.findall(r"^\| `(OWUI_BUDGET_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", DOCUMENT, re.MULTILINE)
    assert len(rows) == len({row[0] for row in rows}), "a variable is documented twice"
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def test_every_variable_is_documented_and_nothing_else() -> None:
    assert documented().keys() == known_names()


@pytest.mark.parametrize("name", sorted(known_names()))
def test_the_documented_default_and_reader_are_right(name: str) -> None:
    field = name.removeprefix(PREFIX).lower()
    reader, default, meaning = documented()[name]
    assert reader == ("both" if field in HooksSettings.model_fields else "sync")
    value = getattr(SyncSettings(), field)
    shown = value.get_secret_value() if isinstance(value, SecretStr) else value
    assert default == ("none" if shown in (None, ()) else f"`{shown:g}`" if isinstance(shown, float) else f"`{shown}`")
    assert meaning.startswith("Secret") == (name.removeprefix(PREFIX) in SECRETS)


@pytest.mark.parametrize("name", sorted(known_names()))
def test_the_documented_range_is_the_range(name: str) -> None:
    schema = str(SyncSettings.model_json_schema()["properties"][name.removeprefix(PREFIX).lower()])
    for figure in re.findall(r"'(?:minimum|maximum)': ([\d.]+)", schema):
        assert re.search(rf"(?<![\d,]){float(figure):,.0f}(?!\d|,\d)", documented()[name][2])


@pytest.mark.parametrize("example", re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL))
def test_the_examples_are_valid(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in example.splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    assert load_hooks_settings().connection_keys
    assert load_sync_settings().limits_file


def test_the_documented_answer_is_the_answer(environment: Callable[..., None]) -> None:
    environment(JWT_SECRT="x")
    with pytest.raises(ConfigurationError) as caught:
        load_hooks_settings()
    assert f"```text\n{caught.value}\n```" in DOCUMENT


def test_the_ledger_needs_no_more_than_its_own() -> None:
    assert LedgerSettings.model_fields.keys() == {"database_url", "database_schema", "limits_file"}

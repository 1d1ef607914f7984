"""A migrated SQLite file for the price of a copy: migrating takes most of a second, and hundreds of tests want one."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from pydantic import SecretStr

from owui_budget.config import LedgerSettings
from owui_budget.database.engine import make_engine
from owui_budget.database.migrate import upgrade


def migrated(path: Path) -> Path:
    """Put a migrated, empty database at `path`."""
    shutil.copyfile(_template(), path)
    return path


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="owui-budget-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "template.db"
    engine = make_engine(LedgerSettings(database_url=SecretStr(f"sqlite:///{path}")))
    upgrade(engine)
    engine.dispose()  # the last connection to close leaves one file, no log beside it
    return path

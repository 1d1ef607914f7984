"""Our own programs: the migration that runs once, and the sync job."""

from stack import tools
from stack.compose import Service
from stack.errors import StackError
from stack.http import answers
from stack.processes import Program, base_environment
from stack.rewrite import LOOPBACK, listen_on
from stack.state import State

_UPGRADE = """
from owui_budget.config import load_sync_settings
from owui_budget.database.engine import make_engine
from owui_budget.database.migrate import upgrade
upgrade(make_engine(load_sync_settings()))
"""


def migrate(state: State, environment: dict[str, str], command: list[str]) -> None:
    """Run the one-shot service to its end.

    Raises:
        StackError: it failed.

    """
    if not available(*command[1:]):
        # Until the command line is there.
        command = ["python", "-c", _UPGRADE]
    variables = {**base_environment(state.home), **environment}
    tools.run([executable(command[0]), *command[1:]], "owui-budget's migrations", variables)


def program(name: str, service: Service, environment: dict[str, str], command: list[str], port: int) -> Program:
    """Return one sync process."""
    variables = listen_on(environment, "OWUI_BUDGET_SERVICE_HOST", "OWUI_BUDGET_SERVICE_PORT", port)
    url = f"http://{LOOPBACK}:{port}{service.health_path}"
    return Program(name, [executable(command[0]), *command[1:]], variables, answers(url), grace=service.grace)


def executable(name: str = "owui-budget") -> str:
    """Return the path of a command that the image has on its PATH."""
    return str(tools.DEV_BIN / name)


def available(*command: str) -> bool:
    """Whether the command line has this command."""
    try:
        tools.run([executable(), *command, "--help"], "owui-budget", timeout=60)
    except (StackError, OSError):
        return False
    return True

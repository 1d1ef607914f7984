"""Our own programs: the migration that runs once, and the sync job."""

from stack import tools
from stack.compose import Service
from stack.http import answers
from stack.processes import Program, base_environment
from stack.rewrite import LOOPBACK, listen_on
from stack.state import State


def migrate(state: State, environment: dict[str, str], command: list[str]) -> None:
    """Run the one-shot service to its end.

    Raises:
        StackError: it failed.

    """
    variables = {**base_environment(state.home), **environment}
    tools.run([executable(command[0]), *command[1:]], "owui-budget's migrations", variables)


def program(name: str, service: Service, environment: dict[str, str], command: list[str], port: int) -> Program:
    """Return one sync process."""
    variables = listen_on(environment, "OWUI_BUDGET_SERVICE_HOST", "OWUI_BUDGET_SERVICE_PORT", port)
    url = f"http://{LOOPBACK}:{port}{service.health_path}"
    return Program(
        name, [executable(command[0]), *command[1:]], variables, answers(url), deadline=120, grace=service.grace
    )


def executable(name: str = "owui-budget") -> str:
    """Return the path of a command that the image has on its PATH."""
    return str(tools.DEV_BIN / name)

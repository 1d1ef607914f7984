"""A running stack: start everything in order, stop, kill or restart single processes, stop everything."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from stack import litellm, openwebui, postgres, prisma, processes, provider, seed, sync, tools
from stack.endpoints import Endpoints, User
from stack.errors import StackError
from stack.plan import SERVICES, Environments, Plan, Wishes
from stack.processes import Program
from stack.state import TOOLS, State, file_lock, write_json

_TITLES = {
    "postgres": "PostgreSQL",
    "provider": "the simulated model provider",
    "litellm": "LiteLLM",
    "openwebui": "Open WebUI",
    "sync": "the sync job",
}


class Stack:
    """The processes of one state directory."""

    def __init__(self, state_dir: Path, wishes: Wishes | None = None, say: tools.Say = lambda _: None) -> None:
        """Read docker-compose.yml for this state directory. Nothing is started yet."""
        self.state = State(state_dir.resolve())
        self.wishes = wishes or Wishes()
        self.say = say
        self.plan = Plan(self.state, self.wishes)
        self.users: tuple[User, ...] = ()
        self._engine: prisma.Engine | None = None

    @property
    def endpoints(self) -> Endpoints:
        """Addresses and logins."""
        return self.plan.endpoints(self.users)

    def start(self, *, seeded: bool = True) -> Self:
        """Install what is missing, start all services that are not running, wait until each is healthy, and seed."""
        with self.state.locked():
            self.install()
            self._launch("postgres")
            if self.plan.simulated:
                self._launch("provider")
            self._migrate()
            # Side by side: each takes longer than everything else together.
            self._launch("litellm", "openwebui")
            if "litellm" in self.wishes.services and "sync" not in self.wishes.services:
                litellm.create_connection_key(self.endpoints.litellm)
            if "openwebui" in self.wishes.services and seeded:
                self.say("creating users and groups")
                self.users = seed.seed(self.state, self.endpoints.openwebui)
            self._launch("sync")
            if {"litellm", "sync"} <= set(self.wishes.services):
                litellm.wait_for_connection_key(self.endpoints.litellm)
            write_json(self.state.endpoints, self.endpoints.to_json())
        return self

    def install(self) -> None:
        """Install what the services need and this checkout does not have yet."""
        with file_lock(TOOLS / "lock"):
            if "litellm" in self.wishes.services:
                self._engine = prisma.prepare(self.say)
            if "openwebui" in self.wishes.services:
                tools.openwebui(self.say)

    def stop_all(self) -> None:
        """Stop every process of this state directory, those of earlier commands too, the last started first."""
        with self.state.locked():
            stop_all(self.state)

    def stop(self, instance: str) -> None:
        """Stop one process in an orderly way (SIGTERM, and SIGKILL after its grace)."""
        processes.stop(self.state, instance)

    def kill(self, instance: str) -> None:
        """End one process with SIGKILL, as a crash would."""
        processes.stop(self.state, instance, kill=True)

    def restart(
        self,
        instance: str,
        environment: Mapping[str, str | None] | None = None,
        *,
        kill: bool = False,
        wait: bool = True,
    ) -> None:
        """End one process (as `stop` or `kill` do) and start it again, with other environment variables if given."""
        processes.stop(self.state, instance, kill=kill)
        self.start_one(instance, environment, wait=wait)

    def start_one(
        self, instance: str, environment: Mapping[str, str | None] | None = None, *, wait: bool = True
    ) -> None:
        """Start one process that is not running."""
        program = self._program(instance, environment)
        processes.start(self.state, program)
        if wait:
            processes.wait_healthy(self.state, program)

    def wait_healthy(self, instance: str) -> None:
        """Wait until a process that was started with `wait=False` is healthy."""
        processes.wait_healthy(self.state, self._program(instance))

    def pid(self, instance: str) -> int | None:
        """Return the pid of one process, None if it does not run."""
        process = processes.find(self.state, instance)
        return process.pid if process else None

    def log(self, instance: str) -> Path:
        """Return the path of one process's log."""
        return self.state.logs / f"{instance}.log"

    def environment(self, instance: str) -> dict[str, str]:
        """Return the environment of one service (`migrate`, too), for programs that shall see what it sees."""
        return self.plan.environment(instance)

    def _migrate(self) -> None:
        if "postgres" not in self.wishes.services:
            return
        sync.migrate(self.state, self.plan.environment("migrate"), self.plan.command("migrate"))
        if "litellm" in self.wishes.services:
            litellm.migrate(self.plan.environment("litellm")["DATABASE_URL"], self.say)

    def _launch(self, *services: str) -> None:
        """Start those of `services` that are wanted, all their processes side by side, and wait for them."""
        wanted = [service for service in services if service in self.wishes.services]
        if not wanted:
            return
        self.say("starting " + " and ".join(_TITLES[service] for service in wanted))
        programs = [self._program(name) for service in wanted for name in self.wishes.instances(service)]
        for program in programs:
            processes.start(self.state, program)
        for program in programs:
            processes.wait_healthy(self.state, program)

    def _program(self, instance: str, extra: Mapping[str, str | None] | None = None) -> Program:
        plan, port = self.plan, self.plan.ports[instance]
        match instance.partition("-")[0]:
            case "provider":
                return provider.program(port)
            case "postgres":
                service, paths = plan.service(instance), plan.paths(instance)
                init = next(path for place, path in paths.items() if place.startswith("/docker-entrypoint-initdb.d/"))
                return postgres.program(service, self.state.volumes / "postgres-data" / "18", init, port)
            case "litellm":
                if self._engine is None:
                    self._engine = prisma.prepare(self.say)
                environment, command = plan.environment(instance, extra), plan.command(instance)
                return litellm.program(instance, plan.service(instance), environment, command, port, self._engine)
            case "openwebui":
                frontend = self.state.folder / "openwebui" / "frontend"
                openwebui.lay_frontend(frontend, plan.paths(instance))
                environment = plan.environment(instance, extra)
                return openwebui.program(
                    plan.service(instance), environment, frontend, frontend.with_name("static"), port
                )
            case "sync":
                environment, command = plan.environment(instance, extra), plan.command(instance)
                return sync.program(instance, plan.service(instance), environment, command, port)
            case _:
                msg = f"there is no process {instance!r}"
                raise StackError(msg)


@contextlib.contextmanager
def running(  # noqa: PLR0913 - keyword arguments of a test fixture
    state_dir: Path,
    *,
    services: Sequence[str] = SERVICES,
    overrides: Environments | None = None,
    mounts: Mapping[str, Path] | None = None,
    litellm: int = 1,
    sync: int = 1,
    seeded: bool = True,
    say: tools.Say = lambda _: None,
) -> Iterator[Stack]:
    """Start a stack in `state_dir`, yield it, and stop all of it afterwards. Its data stay, for a next time.

    `litellm` and `sync` say how many processes of each; the further ones are called litellm-2, sync-2 and so on.
    """
    wishes = Wishes(services, overrides or {}, mounts or {}, {"litellm": litellm, "sync": sync})
    stack = Stack(state_dir, wishes, say)
    try:
        yield stack.start(seeded=seeded)
    finally:
        stack.stop_all()


def stop_all(state: State) -> None:
    """Stop everything on record, users of the database before the database."""
    order = ["sync", "openwebui", "litellm", "provider", "postgres"]
    for name in sorted(processes.names(state), key=lambda name: order.index(name.partition("-")[0])):
        processes.stop(state, name)

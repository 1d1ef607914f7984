"""`owui-budget run`: the loop, the mirroring, the lease and the HTTP service in one process, until a signal ends it."""

import asyncio
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Any

import uvicorn

from owui_budget import __version__
from owui_budget.clock import Clock, SystemClock
from owui_budget.config import SyncSettings
from owui_budget.database import migrate
from owui_budget.database.engine import make_engine
from owui_budget.errors import BudgetError, ConfigurationError, LedgerUnavailableError
from owui_budget.ledger.processes import Heartbeat, forget_process, write_heartbeat
from owui_budget_sync.health import Health
from owui_budget_sync.housekeeping import Housekeeping
from owui_budget_sync.leader import Journal, Leadership
from owui_budget_sync.lease_keeper import keep_lease
from owui_budget_sync.openwebui.client import OpenWebuiClient
from owui_budget_sync.openwebui.install import install, trigger_url
from owui_budget_sync.runner import Pace, Runner
from owui_budget_sync.service import make_app
from owui_budget_sync.wiring import Parts, parts

log = logging.getLogger(__name__)

INSTALL_PAUSES = (2.0, 5.0, 15.0, 60.0)
"""Seconds between attempts to install the event function while Open WebUI is not up yet; the last one repeats."""

SWITCH_INTERVAL = 0.001
"""Seconds after which a computing thread lets the others run; Python's own 0.005 makes a look take seconds."""


async def serve(settings: SyncSettings, clock: Clock | None = None) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: settings or limits.yaml are unusable, or the port is taken.
        SchemaError: the database's tables are missing or of another version.
        LedgerUnavailableError: the database cannot be reached at the start.

    """
    clock = clock or SystemClock()
    limits = settings.limits()
    engine = make_engine(settings)
    holder = f"sync-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    # A limit that was just edited must not wait for a thread that works through 100,000 users.
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        await asyncio.to_thread(migrate.check, engine)
        async with parts(settings, limits, engine, clock, paced=True) as made:
            await _Daemon(made, holder).run()
    finally:
        engine.dispose()


class _Daemon:
    """The tasks of one process."""

    def __init__(self, made: Parts, holder: str) -> None:
        settings = made.settings
        self._made = made
        self._holder = holder
        self._started = made.clock.now()
        self._health = Health(made.clock)
        self._leadership = Leadership(made.engine, holder, made.clock)
        heavy = asyncio.Lock()
        self._mirror = made.mirror_job(self._health, heavy)
        self._function_problem: str | None = None
        self._runner = Runner(
            made.policy,
            self._leadership,
            Journal(made.engine, made.clock),
            self._health,
            clock=made.clock,
            pace=Pace(settings.sync_interval, settings.users_interval, settings.safety_threshold),
            heavy=heavy,
            on_change=self._mirror_too,
            notes=self._notes,
        )

    async def run(self) -> None:
        made, settings = self._made, self._made.settings
        secret = settings.trigger_secret.get_secret_value() if settings.trigger_secret else None
        app = make_app(self._health, secret, self._runner.trigger)
        server = _Server(
            uvicorn.Config(
                app,
                host=settings.service_host,
                port=settings.service_port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=5,
            )
        )
        log.info("sync starts", extra={"version": __version__, "port": settings.service_port})
        work: list[Coroutine[Any, Any, None]] = [
            self._runner.run(),
            keep_lease(self._leadership, self._runner, self._health, self._beat),
        ]
        work.append(Housekeeping(made.engine, self._holder, made.clock, made.limits.retention_days).run())
        if self._mirror is not None:
            work.append(self._mirror.run())
        if secret is not None and settings.service_url is not None:
            work.append(self._install(trigger_url(settings.service_url), secret))
        serving = asyncio.create_task(server.serve_until_signal())
        tasks = [asyncio.create_task(each) for each in work]
        try:
            await _first_end(serving, tasks)
        finally:
            server.should_exit = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(serving, *tasks, return_exceptions=True)
            await self._leave()
        log.info("sync ends")

    async def _install(self, url: str, secret: str) -> None:
        """Install the event function once Open WebUI answers."""
        for pause in chain(INSTALL_PAUSES, repeat(INSTALL_PAUSES[-1])):
            try:
                # A client of its own: with the database as source there is no other.
                async with OpenWebuiClient(self._made.settings) as client:
                    done = await install(client, url=url, secret=secret)
            except ConfigurationError as error:
                self._function_problem = f"the event function is not installed: {error}"
                log.warning("%s", self._function_problem)
                return
            except BudgetError as error:
                self._function_problem = f"the event function is not installed yet: {error}"
                log.warning("%s", self._function_problem)
                await asyncio.sleep(pause)
            else:
                self._function_problem = None
                log.info("the event function is in place", extra={"done": list(done)})
                return

    def _mirror_too(self, revision_moved: bool) -> None:  # noqa: FBT001 - the runner calls it so
        if self._mirror is not None:
            self._mirror.want(at_once=revision_moved)

    def _notes(self) -> tuple[str, ...]:
        found = self._mirror.notes if self._mirror is not None else ()
        return (*found, self._function_problem) if self._function_problem else found

    def _beat(self) -> None:
        made = self._made
        write_heartbeat(
            made.engine,
            Heartbeat(
                id=self._holder,
                kind="sync",
                host=socket.gethostname(),
                pid=os.getpid(),
                version=__version__,
                started_at=self._started,
                seen_at=made.clock.now(),
                policy_revision=self._health.revision,
                limits_digest=made.limits.digest,
            ),
        )

    async def _leave(self) -> None:
        try:
            await asyncio.to_thread(self._leadership.release)
            await asyncio.to_thread(forget_process, self._made.engine, self._holder)
        except LedgerUnavailableError as error:
            log.warning("could not give the lease back, it runs out by itself: %s", error)


async def _first_end(serving: asyncio.Task[None], tasks: list[asyncio.Task[None]]) -> None:
    """Until the service ends, or one of the loops fails: they end by themselves only if something is wrong."""
    pending = {serving, *tasks}
    while serving in pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals, which ends the process before the lease is given back."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def serve_until_signal(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ConfigurationError: the address cannot be used.

        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            await self.serve()
        except SystemExit as error:  # uvicorn's way to say that it cannot listen; it has logged why
            msg = (
                f"cannot listen on {self.config.host}:{self.config.port}; "
                "set OWUI_BUDGET_SERVICE_HOST and OWUI_BUDGET_SERVICE_PORT to a free address"
            )
            raise ConfigurationError(msg) from error
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.should_exit = True

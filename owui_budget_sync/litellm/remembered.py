"""What was last mirrored, by digest, so that a sync with nothing new need not read 100,000 customers from LiteLLM."""

from collections.abc import Collection, Mapping
from itertools import islice

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from owui_budget.clock import Clock
from owui_budget.database.tables import mirror_objects
from owui_budget.ledger.access import shared, snapshot

PAGE = 5_000


class Remembered:
    """Digests of one kind of object. Every method raises `LedgerUnavailableError` when the database is away."""

    def __init__(self, engine: Engine, kind: str, clock: Clock) -> None:
        """Keep digests of objects of `kind`."""
        self._engine = engine
        self._kind = kind
        self._clock = clock

    def all(self) -> dict[str, str]:
        """Return all digests by object id."""
        statement = select(mirror_objects.c.id, mirror_objects.c.digest).where(mirror_objects.c.kind == self._kind)
        with snapshot(self._engine) as connection:
            return {row.id: row.digest for row in connection.execute(statement)}

    def count(self) -> int:
        """Return how many there are."""
        statement = select(func.count()).select_from(mirror_objects).where(mirror_objects.c.kind == self._kind)
        with snapshot(self._engine) as connection:
            return int(connection.execute(statement).scalar_one())

    def put(self, digests: Mapping[str, str]) -> None:
        """Remember these digests."""
        now = self._clock.now()
        rows = iter(
            {"kind": self._kind, "id": each, "digest": digest, "updated_at": now} for each, digest in digests.items()
        )
        with shared(self._engine) as connection:
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            statement = insert(mirror_objects)
            statement = statement.on_conflict_do_update(
                index_elements=["kind", "id"],
                set_={"digest": statement.excluded.digest, "updated_at": statement.excluded.updated_at},
            )
            while chunk := list(islice(rows, PAGE)):
                connection.execute(statement, chunk)

    def forget(self, ids: Collection[str]) -> None:
        """Forget these objects."""
        wanted = sorted(ids)
        with shared(self._engine) as connection:
            for start in range(0, len(wanted), PAGE):
                chunk = mirror_objects.c.id.in_(wanted[start : start + PAGE])
                connection.execute(delete(mirror_objects).where(mirror_objects.c.kind == self._kind, chunk))

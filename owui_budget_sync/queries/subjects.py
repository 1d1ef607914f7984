"""Finds whom an operator means: `alice@example.com`, a name, an id, or `user:…`, `group:…`, `service:…` to be exact."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from owui_budget.database.tables import counters, policy_groups, policy_users, usage_events
from owui_budget.domain.identity import Counter, CounterKind
from owui_budget.errors import FinalError
from owui_budget.ledger.access import snapshot
from owui_budget.wording import shown

_NAMED = 5
_PAGE = 1_000


class NoSuchSubjectError(FinalError):
    """Nobody is called that."""


class AmbiguousSubjectError(FinalError):
    """Several are called that."""


@dataclass(frozen=True, slots=True)
class Found:
    """A user, a group's pool or a service, by the counter it is counted in."""

    kind: CounterKind
    id: str
    name: str | None = None
    email: str | None = None
    known: bool = True
    """False for whom only the ledger remembers: deleted in Open WebUI, erased, or not synced yet."""

    @property
    def counter(self) -> Counter:
        """The counter it is counted in."""
        return Counter(self.kind, self.id)

    @property
    def title(self) -> str:
        """How a sentence names it."""
        what = "group" if self.kind is CounterKind.POOL else self.kind.value
        label = shown(self.name) if self.name else ""
        if self.email:
            label = f"{label} <{shown(self.email)}>" if label else shown(self.email)
        return f"{what} {label} ({self.id})" if label else f"{what} {self.id}"


_PREFIXES = {"user": CounterKind.USER, "group": CounterKind.POOL, "service": CounterKind.SERVICE}


def find(engine: sa.Engine, word: str) -> Found:
    """Return the user, group or service that `word` means.

    Raises:
        NoSuchSubjectError, AmbiguousSubjectError: nobody, or more than one.

    """
    prefix, separator, rest = word.partition(":")
    kind = _PREFIXES.get(prefix) if separator else None
    if kind is not None:
        return _one(word, _search(engine, kind, rest), engine)
    found = [each for kind in (CounterKind.USER, CounterKind.POOL) for each in _search(engine, kind, word)]
    exact = [each for each in found if each.id == word]
    return _one(word, exact or found or _search(engine, CounterKind.SERVICE, word), engine)


def find_user(engine: sa.Engine, word: str) -> Found:
    """Return the user that `word` means: an id, an e-mail address or a unique name.

    Raises:
        NoSuchSubjectError, AmbiguousSubjectError: nobody, or more than one.

    """
    return _one(word, _search(engine, CounterKind.USER, word.removeprefix("user:")), engine, "user")


def names(engine: sa.Engine, kind: CounterKind, ids: Iterable[str]) -> dict[str, str]:
    """Return the names of users or groups by id; those without a name are left out."""
    table = policy_groups if kind is CounterKind.POOL else policy_users
    wanted = sorted(set(ids))
    found: dict[str, str] = {}
    with snapshot(engine) as connection:
        for start in range(0, len(wanted), _PAGE):
            rows = connection.execute(
                sa.select(table.c.id, table.c.name).where(table.c.id.in_(wanted[start : start + _PAGE]))
            )
            found.update((row.id, row.name) for row in rows if row.name)
    return found


def _one(word: str, found: Sequence[Found], engine: sa.Engine, what: str = "user or group") -> Found:
    if len(found) == 1:
        return found[0]
    if not found:
        hint = "" if _synced(engine) else "; sync has not read any user yet (`owui-budget status` says why)"
        msg = f"there is no {what} {shown(word)!r}: give an id, an e-mail address or a name{hint}"
        raise NoSuchSubjectError(msg)
    listed = ", ".join(f"{_PREFIX_OF[each.kind]}:{each.id}" for each in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    msg = f"{shown(word)!r} means {len(found)}: {listed}{more}; say which by its id"
    raise AmbiguousSubjectError(msg)


_PREFIX_OF = {kind: prefix for prefix, kind in _PREFIXES.items()}


def _search(engine: sa.Engine, kind: CounterKind, word: str) -> list[Found]:
    with snapshot(engine) as connection:
        match kind:
            case CounterKind.USER:
                found = _users(connection, word)
            case CounterKind.POOL:
                found = _groups(connection, word)
            case _:
                found = []
        return found or _remembered(connection, kind, word)


def _users(connection: sa.Connection, word: str) -> list[Found]:
    columns = policy_users.c
    for condition in (
        columns.id == word,
        sa.func.lower(columns.email) == word.strip().lower(),
        sa.or_(columns.name == word, sa.func.lower(columns.name) == word.strip().lower()),
    ):
        rows = connection.execute(sa.select(policy_users).where(condition).order_by(columns.id)).all()
        if rows:
            return [Found(CounterKind.USER, row.id, row.name, row.email) for row in rows]
    return []


def _groups(connection: sa.Connection, word: str) -> list[Found]:
    columns = policy_groups.c
    for condition in (
        columns.id == word,
        columns.name == word,
        sa.func.lower(columns.name) == word.strip().lower(),
    ):
        rows = connection.execute(sa.select(columns.id, columns.name).where(condition).order_by(columns.id)).all()
        if rows:
            return [Found(CounterKind.POOL, row.id, row.name) for row in rows]
    return []


def _remembered(connection: sa.Connection, kind: CounterKind, identifier: str) -> list[Found]:
    """Return whom the ledger alone knows, by id."""
    if not identifier:
        return []
    lookups = [sa.select(counters.c.key).where(counters.c.key == Counter(kind, identifier).key)]
    if kind is CounterKind.USER:
        lookups.append(sa.select(usage_events.c.user_id).where(usage_events.c.user_id == identifier))
    known = any(connection.execute(each.limit(1)).first() for each in lookups)
    return [Found(kind, identifier, known=False)] if known else []


def _synced(engine: sa.Engine) -> bool:
    with snapshot(engine) as connection:
        return connection.execute(sa.select(policy_users.c.id).limit(1)).first() is not None

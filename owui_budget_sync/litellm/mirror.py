"""Brings LiteLLM's objects to what the policy says: reads what is there, plans, and applies at a bounded pace.

Enforcement never waits for it: the hooks read the policy store. A mirroring that was killed is resumed by the next one,
which finds what was done already and plans the rest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from owui_budget_sync.changes import Change, MembersChanged, Removed, identifier
from owui_budget_sync.litellm.objects import (
    NO_GROUP,
    Budget,
    ConnectionKey,
    Customer,
    Foreign,
    MirrorState,
    Team,
    fingerprint,
)
from owui_budget_sync.litellm.reader import LitellmReader
from owui_budget_sync.litellm.remembered import Remembered
from owui_budget_sync.litellm.writer import LitellmWriter
from owui_budget_sync.planner import mirror_changes

SINGLY = 200
"""Up to this many customers are looked up one by one; more are worth reading LiteLLM's whole list."""
TOO_MANY = 20_000
"""With more customers than this the daemon never reads LiteLLM's whole list by itself, which LiteLLM builds in memory;
`owui-budget plan` and `apply` still do."""
AT_ONCE = 4
SAVED_EVERY = 100

_NOT_OURS = "foreign:"

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Mirrored:
    """What a mirroring did."""

    applied: int = 0
    foreign: list[Foreign] = field(default_factory=list)


@dataclass
class _Found:
    """Sorts what is read."""

    teams: dict[str, Team] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)
    keys: dict[str, ConnectionKey] = field(default_factory=dict)
    foreign: dict[tuple[str, str], Foreign] = field(default_factory=dict)

    def add(self, item: Team | Customer | ConnectionKey | Foreign) -> None:
        match item:
            case Foreign():
                self.foreign[item.kind, item.id] = item
            case Team():
                self.teams[item.group_id] = item
            case Customer():
                self.customers[item.user_id] = item
            case ConnectionKey():
                self.keys[item.token_hash] = item


class LitellmMirror:
    """Reads and changes LiteLLM's side of the state."""

    def __init__(self, reader: LitellmReader, writer: LitellmWriter, remembered: Remembered) -> None:
        """Work through `reader` and `writer`, remembering customers in `remembered`."""
        self._reader = reader
        self._writer = writer
        self._remembered = remembered

    async def read(self, desired: MirrorState, *, customers: Collection[str] | None = None) -> MirrorState:
        """Read our objects, and whatever stands where one of ours should be.

        Of the customers only those named in `customers` are read, or the whole list where that is cheaper; None reads
        all of them.
        """
        found = _Found()
        async for team in self._reader.teams():
            if not isinstance(team, Foreign) or team.id in desired.teams:
                found.add(team)
        async for key in self._reader.keys(desired.keys):
            found.add(key)
        async for budget in self._reader.budgets({NO_GROUP, *found.teams, *desired.budgets}):
            found.budgets[budget.group_id] = budget
        if customers is None or len(customers) > SINGLY:
            async for customer in self._reader.customers(desired.customers.keys()):
                if customers is None or _user(customer) in customers:
                    found.add(customer)
        else:
            for each in await _few_at_once(self._reader.customer, sorted(customers)):
                if each is not None:
                    found.add(each)
        return MirrorState(found.teams, found.budgets, found.customers, found.keys, found.foreign)

    async def pending(self, desired: MirrorState) -> frozenset[str]:
        """Return the customers that differ from what was last mirrored."""
        known = await asyncio.to_thread(self._remembered.all)
        return frozenset(
            user_id
            for user_id in known.keys() | desired.customers.keys()
            if known.get(user_id, "").removeprefix(_NOT_OURS) != _digest(desired.customers.get(user_id))
        )

    async def affordable(self) -> bool:
        """Whether reading LiteLLM's whole list of customers is no burden for it."""
        return await asyncio.to_thread(self._remembered.count) <= TOO_MANY

    async def changes(self, desired: MirrorState, *, full: bool) -> tuple[tuple[Change, ...], MirrorState]:
        """Plan the way to `desired`; without `full` only customers that differ from the last mirroring are compared."""
        compared = None if full else await self.pending(desired)
        current = await self.read(desired, customers=compared)
        if compared is not None:
            some = {each: desired.customers[each] for each in compared if each in desired.customers}
            desired = replace(desired, customers=some)
        planned = tuple(mirror_changes(current, desired))
        await self._settle(current, desired, planned, compared)
        return planned, current

    async def apply(
        self,
        changes: Collection[Change],
        desired: MirrorState,
        go_on: Callable[[Mirrored], Awaitable[bool]],
    ) -> Mirrored:
        """Apply `changes` in order, customers a few at once.

        Ends early where `go_on` says no, which is asked now and then and told of what was done.

        Raises:
            TargetUnavailableError, TargetRefusedError: LiteLLM did not do one of them; those before it are done.

        """
        done = Mirrored()
        last: list[Change] = [change for change in changes if isinstance(change, Removed)]
        rest = [change for change in changes if not isinstance(change, Removed)]
        people: list[Change] = [change for change in rest if _is_customer(change)]
        first: list[Change] = [change for change in rest if not _is_customer(change)]
        for change in first:
            if not await go_on(done):
                return done
            await self._one(change, done)
        for start in range(0, len(people), SAVED_EVERY):
            if not await go_on(done):
                return done
            chunk = people[start : start + SAVED_EVERY]
            await _few_at_once(lambda change: self._one(change, done), chunk)
            await self._save(chunk, desired, done)
        for change in last:
            await self._one(change, done)
        await asyncio.to_thread(
            self._remembered.forget, [identifier(change) for change in last if _is_customer(change)]
        )
        return done

    async def _one(self, change: Change, done: Mirrored) -> None:
        stranger = await self._writer.apply(change)
        if stranger is not None:
            done.foreign.append(stranger)
        else:
            done.applied += 1

    async def _save(self, chunk: list[Change], desired: MirrorState, done: Mirrored) -> None:
        strangers = {each.id for each in done.foreign if each.kind == "customer"}
        ids = [identifier(change) for change in chunk]
        digests = {
            each: (_NOT_OURS if each in strangers else "") + _digest(desired.customers[each])
            for each in ids
            if each in desired.customers
        }
        await asyncio.to_thread(self._remembered.put, digests)
        await asyncio.to_thread(self._remembered.forget, [each for each in ids if each not in desired.customers])

    async def _settle(
        self,
        current: MirrorState,
        desired: MirrorState,
        planned: tuple[Change, ...],
        compared: Collection[str] | None,
    ) -> None:
        """Remember customers that need no change, and strangers, so that they are not looked up again."""
        changing = {identifier(change) for change in planned if _is_customer(change)}
        same = {
            each: _digest(customer)
            for each, customer in desired.customers.items()
            if each not in changing and current.customers.get(each) == customer
        }
        strangers = {
            each: _NOT_OURS + _digest(desired.customers[each])
            for kind, each in current.foreign
            if kind == "customer" and each in desired.customers
        }
        known = await asyncio.to_thread(self._remembered.all)
        new = {each: digest for each, digest in (same | strangers).items() if known.get(each) != digest}
        looked = known.keys() if compared is None else set(compared) & known.keys()
        gone = [each for each in looked if each not in desired.customers and each not in changing]
        if new:
            await asyncio.to_thread(self._remembered.put, new)
        if gone:
            await asyncio.to_thread(self._remembered.forget, gone)


def _digest(customer: Customer | None) -> str:
    return fingerprint(customer.alias, customer.group_id) if customer else ""


def _user(found: Customer | Foreign) -> str:
    return found.user_id if isinstance(found, Customer) else found.id


def _is_customer(change: Change) -> bool:
    return not isinstance(change, MembersChanged) and isinstance(change.object, Customer)


async def _few_at_once(work: Callable[[T], Awaitable[R]], items: Sequence[T]) -> list[R]:
    results: list[R] = []
    for start in range(0, len(items), AT_ONCE):
        # All of a handful end before the first error is raised: none is left running on a closed client.
        done = await asyncio.gather(*map(work, items[start : start + AT_ONCE]), return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result
            results.append(result)
    return results

"""The spool: on disk before it answers, replayed once and in order, nothing dropped in silence."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ledgers import NOON, TestedLedger, admit, figures, limit, reserve, settled, user

from owui_budget.clock import ManualClock
from owui_budget.errors import LedgerUnavailableError
from owui_budget.ledger.memory import MemoryLedger
from owui_budget.ledger.protocol import LedgerOptions, Settlement
from owui_budget.ledger.spool import Spool, SpoolError


class OutOfReach(MemoryLedger):
    """A ledger that answers `answers` settlements and is gone then."""

    def __init__(self, answers: int) -> None:
        super().__init__(ManualClock(NOON), LedgerOptions())
        self.answers = answers

    async def settle(self, settlement: Settlement) -> bool:
        if self.answers == 0:
            raise LedgerUnavailableError("gone")
        self.answers -= 1
        return await super().settle(settlement)


@pytest.fixture
def ledger() -> TestedLedger:
    return MemoryLedger(ManualClock(NOON), LedgerOptions())


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path, "me")
    made.adopt()
    yield made
    made.close()


def file_of(folder: Path, process: str) -> Path:
    return folder / f"usage-{process}.jsonl"


async def test_what_is_spooled_is_replayed_once_and_in_order(
    spool: Spool, ledger: MemoryLedger, tmp_path: Path
) -> None:
    settlements = [settled(reserve(limit(user(), 100)), charge) for charge in range(300)]
    for each in settlements:
        spool.append(each)
    spool.append(settlements[1])
    assert spool.depth() == 301
    assert await spool.replay(ledger) == 301
    assert spool.depth() == 0
    assert file_of(tmp_path, "me").stat().st_size == 0
    assert [each.charge for each in ledger.events] == list(range(300))
    assert await figures(ledger, user()) == (sum(range(300)), 0)
    assert await spool.replay(ledger) == 0


async def test_a_release_is_spooled_too(spool: Spool, ledger: TestedLedger) -> None:
    request = reserve(limit(user(), 100))
    await admit(ledger, request)
    spool.append(request.id)
    await spool.replay(ledger)
    assert await figures(ledger, user()) == (0, 0)


async def test_a_settlement_survives_the_way_through_the_file(spool: Spool, ledger: MemoryLedger) -> None:
    given = settled(reserve(limit(user("ü\n"), 100), pools=["g1"]), 7, model="m\u2028")
    spool.append(given)
    received: list[Settlement] = []

    class Listening(MemoryLedger):
        async def settle(self, settlement: Settlement) -> bool:
            received.append(settlement)
            return True

    await spool.replay(Listening(ManualClock(NOON), LedgerOptions()))
    assert received == [given]


async def test_an_outage_during_the_replay_keeps_what_is_left(spool: Spool) -> None:
    for charge in range(200):
        spool.append(settled(reserve(limit(user(), 100)), charge))
    ledger = OutOfReach(150)
    with pytest.raises(LedgerUnavailableError):
        await spool.replay(ledger)
    assert spool.depth() == 72  # the first chunk of 128 is done; the second is replayed as a whole
    spool.append(settled(reserve(limit(user(), 100)), 1_000))
    ledger.answers = 1_000
    await spool.replay(ledger)
    assert spool.depth() == 0
    assert await figures(ledger, user()) == (sum(range(200)) + 1_000, 0)


async def test_the_next_start_takes_over_files_of_dead_processes(tmp_path: Path, ledger: TestedLedger) -> None:
    dead, alive = Spool(tmp_path, "dead"), Spool(tmp_path, "alive")
    dead.adopt()
    alive.adopt()
    dead.append(settled(reserve(limit(user(), 100)), 5))
    alive.append(settled(reserve(limit(user(), 100)), 8))
    dead.close()
    assert file_of(tmp_path, "dead").exists()
    new = Spool(tmp_path, "new")
    assert new.adopt() == 1
    assert not file_of(tmp_path, "dead").exists()
    await new.replay(ledger)
    assert await figures(ledger, user()) == (5, 0)
    new.close()
    alive.close()
    assert os.listdir(tmp_path) == ["usage-alive.jsonl"]  # noqa: PTH208 - pathlib's would be I/O of a coroutine


async def test_a_file_of_its_own_from_before_waits_as_well(tmp_path: Path, ledger: TestedLedger) -> None:
    first = Spool(tmp_path, "same")
    first.append(settled(reserve(limit(user(), 100)), 5))
    first.close()
    again = Spool(tmp_path, "same")
    assert again.adopt() == 1
    await again.replay(ledger)
    again.close()
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - as above


@pytest.mark.parametrize("torn", [b'{"v": 1, "settle": {"reserv', b"\x00\xff\n", b"[]\n", b'{"v": 1}\n', b"\n"])
async def test_a_torn_line_is_kept_aside_with_its_reason(
    tmp_path: Path, ledger: TestedLedger, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    dead = Spool(tmp_path, "dead")
    dead.append(settled(reserve(limit(user(), 100)), 5))
    dead.close()
    with file_of(tmp_path, "dead").open("ab") as file:
        file.write(torn)
    spool = Spool(tmp_path, "me")
    assert spool.adopt() == 2
    spool.append(settled(reserve(limit(user(), 100)), 6))
    await spool.replay(ledger)
    spool.close()
    assert await figures(ledger, user()) == (11, 0)
    [kept] = [json.loads(line) for line in (tmp_path / "usage-me.corrupt").read_text().splitlines()]
    assert kept["reason"]
    assert kept["line"] == torn.decode(errors="backslashreplace").rstrip("\n")
    assert "corrupt spool record" in caplog.text


async def test_a_record_the_ledger_refuses_is_kept_aside_and_holds_nobody_up(
    spool: Spool, ledger: TestedLedger, tmp_path: Path
) -> None:
    spool.append(settled(reserve(limit(user(), 100)), 10**30))
    spool.append(settled(reserve(limit(user(), 100)), 3))
    await spool.replay(ledger)
    assert await figures(ledger, user()) == (3, 0)
    assert "charge must be" in (tmp_path / "usage-me.rejected").read_text()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "spool", "me")
    with pytest.raises(SpoolError, match=r"file/spool.*cannot be opened.*make room or mend"):
        spool.adopt()
    with pytest.raises(SpoolError, match="cannot be written"):
        spool.append("r1")
    spool.close()


async def test_a_full_disk_leaves_no_half_line(
    spool: Spool, ledger: TestedLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append(settled(reserve(limit(user(), 100)), 5))
    size = file_of(tmp_path, "me").stat().st_size
    write = os.write

    def full(file: int, content: bytes) -> int:
        if len(content) > 10:
            return write(file, content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("owui_budget.ledger.spool.os.write", full)
    with pytest.raises(SpoolError, match="No space left"):
        spool.append(settled(reserve(limit(user(), 100)), 6))
    monkeypatch.undo()
    assert file_of(tmp_path, "me").stat().st_size == size
    assert spool.depth() == 1
    assert await spool.replay(ledger) == 1

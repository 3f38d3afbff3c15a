from __future__ import annotations

import asyncio
import itertools
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, timedelta
from pathlib import Path

import attrs
import pytest

import plb_store_sqlite
from plb_core.errors import ConfigError, LedgerUnavailable
from plb_core.ledger import Ledger
from plb_core.ledger_records import LedgerRow, LedgerState, Scope
from plb_core.spending import Caps
from plb_core.testing import fakes
from plb_core.testing.contracts.store import DAY, StoreContract, after, row
from plb_core.types import Event
from plb_store_sqlite import file, schema, wal
from plb_store_sqlite.store import SqliteStore, SqliteStoreSettings
from plb_store_sqlite.writer import GROUP, Writer
from tests.core.ledger_rig import WallClock

FLIPS = 100


class TestSqlite(StoreContract):
    provider = plb_store_sqlite.plb_register_store()
    survives = True


def rows() -> list[LedgerRow]:
    """Forty attempts of two days in every state, as written one after another."""
    made: list[LedgerRow] = []
    for number in range(40):
        day = DAY - timedelta(days=number % 2)
        each = row(f"attempt-{number:03}", day=day, client=f"c{number % 3}")
        made.append(each)
        if number % 4 < 3:
            state = ("settled", "unknown", "released")[number % 4]
            made.append(after(each, state, number))  # type: ignore[arg-type]  # a word
    return made


async def fill(path: Path, wanted: Sequence[LedgerRow]) -> None:
    store = SqliteStore(path)
    await store.start()
    for each in wanted:
        await store.write(each)
    await store.close()


async def look(path: Path) -> LedgerState:
    """Open, load, close."""
    store = SqliteStore(path)
    await store.start()
    try:
        return await store.load(DAY)
    finally:
        await store.close()


async def refusal(path: Path) -> str:
    """Open a file that must be refused; return what is said about it."""
    with pytest.raises(ConfigError) as caught:
        await look(path)
    (problem,) = caught.value.problems
    assert str(path) in problem.message
    return problem.message


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def copy(path: Path, folder: Path) -> Path:
    """Copy a ledger with its companions, in a process of its own.

    Closing a file that this process read would drop the locks SQLite holds on it.
    """
    folder.mkdir()
    names = [str(each) for each in path.parent.glob(path.name + "*")]
    subprocess.run(["/bin/cp", *names, str(folder)], check=True)
    return folder / path.name


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position // 8] ^= 1 << position % 8
    path.write_bytes(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@contextmanager
def child(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has the ledger open and one row reserved."""
    code = f"""
import asyncio
from pathlib import Path
from plb_core.testing.contracts.store import row
from plb_store_sqlite.store import SqliteStore

async def main():
    store = SqliteStore(Path({str(path)!r}))
    await store.start()
    await store.write(row("of the child"))
    print("open", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


def test_is_registered_under_its_entry_point_name() -> None:
    assert plb_store_sqlite.plb_register_store().name == "sqlite"


@pytest.mark.asyncio
async def test_the_path_starts_from_the_configurations_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    context = attrs.evolve(fakes.context(), folder=tmp_path)
    settings = SqliteStoreSettings(path="sub/money.db")
    store = plb_store_sqlite.plb_register_store().build(settings, context)
    await store.start()
    await store.close()
    assert (tmp_path / "sub" / "money.db").exists()


@pytest.mark.parametrize("name", ["a b%20c?mode=memory#x.db", "ü'\"; --.db"])
@pytest.mark.asyncio
async def test_odd_file_names_are_names(name: str, tmp_path: Path) -> None:
    await fill(tmp_path / name, rows())
    assert (tmp_path / name).exists()
    assert (await look(tmp_path / name)).spent


@pytest.mark.asyncio
async def test_only_the_owner_may_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        await store.start()
        await store.write(row())
        names = [path, beside(path, "-wal"), beside(path, ".state")]
        modes = [stat.S_IMODE(each.stat().st_mode) for each in names]
        await store.close()
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600, 0o600]
    path.chmod(0o644)
    await look(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.asyncio
async def test_a_clean_end_leaves_one_file_and_its_state(path: Path) -> None:
    await fill(path, rows())
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "ledger.sqlite",
        "ledger.sqlite.state",
    ]


@pytest.mark.asyncio
async def test_commits_are_synced(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    writer = store._writer
    assert writer is not None
    pragmas = ("synchronous", "journal_mode", "mmap_size", "locking_mode")

    def read() -> list[object]:
        connection = store._connection
        return [connection.execute(f"PRAGMA {each}").fetchone()[0] for each in pragmas]

    assert await writer.do(read) == [2, "wal", 0, "exclusive"]
    await store.close()


@pytest.mark.asyncio
async def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    sound = tmp_path / "sound"
    sound.mkdir()
    await fill(sound / "ledger.sqlite", rows())
    before = await look(sound / "ledger.sqlite")
    bits = (sound / "ledger.sqlite").stat().st_size * 8
    chance = random.Random(41)
    refused = 0
    for number in range(FLIPS):
        path = copy(sound / "ledger.sqlite", tmp_path / str(number))
        position = chance.randrange(bits)
        flip(path, position)
        try:
            assert await look(path) == before, f"bit {position}"
        except ConfigError:
            refused += 1
        shutil.rmtree(path.parent)
    assert refused > 0


@pytest.mark.asyncio
async def test_a_flipped_bit_in_the_log_costs_one_commit_at_most(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.sqlite"
    store = SqliteStore(path)
    await store.start()
    for number in range(30):
        await store.write(row(f"a{number}"))
    sound = copy(path, tmp_path / "sound")
    await store.close()
    log = beside(sound, "-wal")
    assert len((await look(copy(sound, tmp_path / "whole"))).reserved) == 30
    chance = random.Random(42)
    outcomes = {"refused": 0, "lost": 0}
    for number in range(FLIPS):
        damaged = copy(sound, tmp_path / str(number))
        flip(beside(damaged, "-wal"), chance.randrange(log.stat().st_size * 8))
        try:
            left = len((await look(damaged)).reserved)
        except ConfigError:
            outcomes["refused"] += 1
        else:
            assert left >= 29
            outcomes["lost"] += 30 - left
        shutil.rmtree(damaged.parent)
    assert outcomes["refused"] > FLIPS / 2
    assert outcomes["lost"] < FLIPS / 5


@pytest.mark.asyncio
async def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    await fill(tmp_path / "ledger.sqlite", rows())
    size = (tmp_path / "ledger.sqlite").stat().st_size
    for length in (0, 1, 15, 100, 4095, 4096, 5000, size // 2, size - 4096, size - 1):
        path = copy(tmp_path / "ledger.sqlite", tmp_path / str(length))
        os.truncate(path, length)
        await refusal(path)


@pytest.mark.asyncio
async def test_a_deleted_file_is_not_created_again(path: Path) -> None:
    await fill(path, rows())
    path.unlink()
    message = await refusal(path)
    assert "the ledger is gone" in message
    assert "delete ledger.sqlite.state" in message
    assert not path.exists()
    beside(path, ".state").unlink()
    assert not (await look(path)).spent


@pytest.mark.asyncio
async def test_a_log_without_its_file_is_refused(path: Path) -> None:
    beside(path, "-wal").write_bytes(b"money")
    assert "ledger.sqlite-wal says that there was one" in await refusal(path)
    assert not path.exists()


@pytest.mark.asyncio
async def test_a_deleted_log_of_an_interrupted_process_is_refused(path: Path) -> None:
    with child(path):
        pass
    assert beside(path, "-wal").exists()
    beside(path, "-wal").unlink()
    assert "ledger.sqlite-wal is gone" in await refusal(path)
    beside(path, ".state").unlink()  # the operator accepts it as it is
    assert not (await look(path)).reserved


@pytest.mark.parametrize("state", [b"", b"clean\n", b"\xff\xfe garbage"])
@pytest.mark.asyncio
async def test_an_odd_state_file_stops_nothing_by_itself(
    state: bytes, path: Path
) -> None:
    await fill(path, rows())
    beside(path, ".state").write_bytes(state)
    assert (await look(path)).spent


@pytest.mark.asyncio
async def test_a_killed_process_leaves_everything(path: Path) -> None:
    with child(path):
        pass
    assert [each.attempt_id for each in (await look(path)).reserved] == ["of the child"]


@pytest.mark.asyncio
async def test_a_second_process_is_refused(path: Path) -> None:
    with child(path):
        assert "another process has it open" in await refusal(path)
    await look(path)


@pytest.mark.asyncio
async def test_a_second_store_in_one_process_is_refused(path: Path) -> None:
    first = SqliteStore(path)
    await first.start()
    assert "another process has it open" in await refusal(path)
    await first.write(row())
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite3.connect(path, timeout=0).execute("SELECT * FROM attempt")
    await first.close()
    assert (await look(path)).reserved


@pytest.mark.asyncio
async def test_a_file_locked_by_a_shell_is_refused(path: Path) -> None:
    await fill(path, rows())
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN")
    shell.execute("SELECT count(*) FROM attempt").fetchone()
    assert "another process has it open" in await refusal(path)
    shell.execute("COMMIT")
    shell.close()
    await look(path)


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["PRAGMA user_version = 2"], "a newer plb wrote it (version 2, not 1)"),
        (["PRAGMA user_version = 0"], "not those of a ledger"),
        (["PRAGMA application_id = 1"], "it is not a ledger of plb"),
        (["DROP TRIGGER attempt_one_way"], "not those of a ledger"),
        (["CREATE TABLE more (x)"], "not those of a ledger"),
    ],
)
@pytest.mark.asyncio
async def test_a_file_that_is_not_of_this_plb_is_refused(
    statements: list[str], message: str, path: Path
) -> None:
    await fill(path, rows())
    shell = sqlite3.connect(path)
    for statement in statements:
        shell.execute(statement)
    shell.commit()
    shell.close()
    assert message in await refusal(path)


@pytest.mark.asyncio
async def test_a_foreign_database_is_refused(path: Path) -> None:
    shell = sqlite3.connect(path)
    shell.execute("CREATE TABLE notes (text)")
    shell.close()
    assert "it is not a ledger of plb" in await refusal(path)


@pytest.mark.asyncio
async def test_a_file_of_another_kind_is_refused(path: Path) -> None:
    path.write_text("Dear diary,\n" * 1000)
    assert "damaged, or no ledger of plb" in await refusal(path)
    assert path.read_text().startswith("Dear diary")


@pytest.mark.asyncio
async def test_an_impossible_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    await refusal(tmp_path / "folder")
    assert "No such file" in await refusal(tmp_path / "none" / "ledger.sqlite")


@pytest.mark.asyncio
async def test_a_first_start_that_was_interrupted_goes_on(path: Path) -> None:
    path.touch()
    await look(path)
    assert beside(path, ".state").read_bytes() == b"clean\n"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE attempt SET charged_micro_usd = 0 WHERE state = 'settled'",
        (
            "UPDATE attempt SET state = 'released', charged_micro_usd = 0"
            " WHERE state = 'settled'"
        ),
        "UPDATE attempt SET state = 'reserved' WHERE state = 'unknown'",
        "UPDATE attempt SET day = '2020-01-01'",
        "UPDATE attempt SET day = 'today' WHERE state = 'reserved'",
        (
            "UPDATE attempt SET state = 'settled', charged_micro_usd = 1001"
            " WHERE state = 'reserved'"
        ),
        (
            "UPDATE attempt SET state = 'settled', charged_micro_usd = -1"
            " WHERE state = 'reserved'"
        ),
        (
            "UPDATE attempt SET state = 'unknown', charged_micro_usd = 0"
            " WHERE state = 'reserved'"
        ),
        "UPDATE attempt SET state = 'released' WHERE state = 'reserved'",
        "UPDATE attempt SET attempt_id = 'x' WHERE attempt_id = 'attempt-001'",
        "DELETE FROM attempt WHERE attempt_id = 'attempt-000'",
        (
            "INSERT INTO attempt SELECT 'x', request_id, day, backend, track, client,"
            " ceiling_micro_usd, charged_micro_usd, state, at_utc, checksum"
            " FROM attempt WHERE state = 'settled'"
        ),
    ],
)
@pytest.mark.asyncio
async def test_no_statement_makes_spent_money_unspent(
    statement: str, path: Path
) -> None:
    await fill(path, rows())
    shell = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        shell.execute(statement)
    shell.close()


@pytest.mark.asyncio
async def test_a_row_changed_behind_the_rules_is_named(path: Path) -> None:
    await fill(path, rows())
    shell = sqlite3.connect(path)
    (trigger,) = shell.execute(
        "SELECT sql FROM sqlite_master WHERE name = 'attempt_one_way'"
    ).fetchone()
    shell.execute("DROP TRIGGER attempt_one_way")
    shell.execute(
        "UPDATE attempt SET charged_micro_usd = 0 WHERE attempt_id = 'attempt-004'"
    )
    shell.execute(trigger)
    shell.commit()
    shell.close()
    assert "attempt 'attempt-004' was changed from outside" in await refusal(path)


@pytest.mark.asyncio
async def test_a_day_that_is_none_is_refused(path: Path) -> None:
    await fill(path, rows())
    shell = sqlite3.connect(path)
    values = list(schema.parameters(row("odd")))
    values[2] = "2026-99-99"
    values[-1] = schema.checksum(*values[:-1])
    shell.execute(schema.PUT, values)
    shell.commit()
    shell.close()
    assert "it is damaged" in await refusal(path)


async def reserve_until_refused(ledger: Ledger) -> int:
    for number in itertools.count():
        try:
            await ledger.reserve(f"a{number}", "r", "web", "main", "", 1000)
        except LedgerUnavailable:
            break
    return number


@pytest.mark.asyncio
async def test_a_full_disk_refuses_rows_and_recovers_by_itself(path: Path) -> None:
    events: list[Event] = []
    caps = Caps({Scope(): 10**9})
    ledger = Ledger(caps, UTC, WallClock(), SqliteStore(path), events.append)
    await ledger.open()
    held = await ledger.reserve("held", "r", "web", "main", "", 1000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = beside(path, "-wal").stat().st_size
    # The kernel refuses to let any file grow beyond this, as a full disk would.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, limits[1]))
    try:
        sent = await reserve_until_refused(ledger)
        held.settle(10)
        for number in range(5):
            with pytest.raises(LedgerUnavailable):
                await ledger.reserve(f"b{number}", "r", "web", "main", "", 1000)
        assert ledger.totals()[Scope()] == (10, 1000 * sent, 10**9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await ledger.reserve("after", "r", "web", "main", "", 1000)
    assert [event.name for event in events] == [
        "ledger_unavailable",
        "ledger_available",
    ]
    await ledger.close()
    state = await look(path)
    assert state.spent[Scope()] == 10
    assert len(state.reserved) == sent + 1


@pytest.mark.asyncio
async def test_a_row_that_sqlite_cannot_take_leaves_no_transaction_open(
    path: Path,
) -> None:
    store = SqliteStore(path)
    await store.start()
    odd = row("odd", client=["not", "text"])
    results = await asyncio.gather(
        store.write(row("a")), store.write(odd), return_exceptions=True
    )
    assert LedgerUnavailable in map(type, results)
    await store.write(row("b"))
    await store.close()
    assert "b" in [each.attempt_id for each in (await look(path)).reserved]


def test_a_place_without_write_ahead_logs_is_refused(path: Path) -> None:
    memory = sqlite3.connect(":memory:")
    with pytest.raises(ConfigError, match="no write-ahead log, only 'memory'"):
        file._set_up(memory, path)
    memory.close()


def test_what_sqlite_says_of_a_damaged_page_may_be_no_text(path: Path) -> None:
    # The report of a damaged page can quote its bytes, which Python cannot decode.
    with pytest.raises(ConfigError, match="it is damaged"), file._explained(path):
        b"\xd4 is no text".decode()


@pytest.mark.asyncio
async def test_closing_on_a_full_disk_loses_nothing(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    for number in range(50):
        await store.write(row(f"a{number}"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        await store.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len((await look(path)).reserved) == 50


SMALL_DISK = """
import asyncio, pathlib, sys
from plb_core.errors import LedgerUnavailable
from plb_core.testing.contracts.store import DAY, row
from plb_store_sqlite.store import SqliteStore

async def main():
    folder = pathlib.Path(sys.argv[1])
    (folder / "ballast").write_bytes(bytes(60_000))
    store = SqliteStore(folder / "ledger.sqlite")
    await store.start()
    stored = 0
    try:
        while stored < 10_000:
            await store.write(row(f"a{stored}"))
            stored += 1
    except LedgerUnavailable as error:
        assert "full" in str(error), error
    assert 0 < stored < 10_000
    (folder / "ballast").unlink()
    await store.write(row("after"))
    await store.close()
    again = SqliteStore(folder / "ledger.sqlite")
    await again.start()
    assert len((await again.load(DAY)).reserved) == stored + 1
    await again.close()

asyncio.run(main())
"""

READ_ONLY = """
import asyncio, pathlib, sys
from plb_core.errors import ConfigError
from plb_store_sqlite.store import SqliteStore

async def main():
    try:
        await SqliteStore(pathlib.Path(sys.argv[1]) / "ledger.sqlite").start()
    except ConfigError as error:
        assert "Read-only" in str(error), error
    else:
        raise AssertionError("it was opened")

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("code", "options"),
    [(SMALL_DISK, "size=256k"), (READ_ONLY, "size=256k,ro")],
    ids=["full", "read-only"],
)
def test_a_real_disk_that_is(code: str, options: str, tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o {options} none "$1"'
    command = ["unshare", "-m", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            [*command, mount, "sh", str(tmp_path)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs root and mount namespaces")
    run = f'{mount} && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        [*command, run, "sh", str(tmp_path), sys.executable, code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.asyncio
async def test_a_closed_store_refuses_and_closes_again(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(LedgerUnavailable):
        await store.load(DAY)
    await store.close()
    await store.start()
    await store.close()
    await store.close()
    with pytest.raises(LedgerUnavailable, match="not open"):
        await store.write(row())
    await store.start()
    await store.write(row())
    await store.close()


@pytest.mark.asyncio
async def test_rows_that_wait_share_a_commit() -> None:
    groups: list[int] = []

    def commit(rows: Sequence[LedgerRow]) -> list[Exception | None]:
        groups.append(len(rows))
        return [None for _ in rows]

    writer = Writer("test", commit)
    busy = asyncio.Event()
    loop = asyncio.get_running_loop()
    gate = asyncio.run_coroutine_threadsafe

    def wait() -> None:
        loop.call_soon_threadsafe(busy.set)
        gate(filled.wait(), loop).result(20)

    filled = asyncio.Event()
    first = asyncio.create_task(writer.do(wait))
    await busy.wait()
    pending = [writer.put(row(f"a{number}")) for number in range(GROUP + 10)]
    order = asyncio.create_task(writer.do(lambda: len(groups)))
    await asyncio.sleep(0)
    filled.set()
    await asyncio.gather(first, *pending)
    assert groups == [GROUP, 10]
    assert await order == 2
    writer.end()


@pytest.mark.asyncio
async def test_a_fault_in_a_commit_does_not_end_the_writer() -> None:
    faults: list[Exception] = [ZeroDivisionError("odd")]

    def commit(rows: Sequence[LedgerRow]) -> list[Exception | None]:
        if faults:
            raise faults.pop()
        return [None for _ in rows]

    writer = Writer("test", commit)
    with pytest.raises(LedgerUnavailable, match="odd"):
        await writer.put(row("a"))
    await writer.put(row("b"))
    writer.end()


def test_a_loop_that_is_gone_does_not_end_the_writer() -> None:
    taken: list[str] = []

    def commit(rows: Sequence[LedgerRow]) -> list[Exception | None]:
        taken.extend(each.attempt_id for each in rows)
        return [None for _ in rows]

    async def leave() -> Writer:
        writer = Writer("test", commit)
        await writer.put(row("a"))
        return writer

    writer = asyncio.run(leave())
    loop = writer._loop
    assert loop.is_closed()
    writer._jobs.put((row("b"), loop.create_future()))
    writer.end()
    assert taken == ["a", "b"]


@pytest.mark.parametrize(
    "log", [b"x", b"\x00" * 31, b"\x00" * 32, b"\xff" * 5000], ids=len
)
def test_a_log_with_a_damaged_head_is_damaged(log: bytes) -> None:
    assert wal.is_damaged(log)


def test_an_empty_log_is_sound() -> None:
    assert not wal.is_damaged(b"")


def test_a_log_in_the_other_byte_order_is_read(tmp_path: Path) -> None:
    shell = sqlite3.connect(tmp_path / "x", isolation_level=None)
    shell.execute("PRAGMA journal_mode = WAL")
    shell.execute("CREATE TABLE t (x)")
    for number in range(5):
        shell.execute("INSERT INTO t VALUES (?)", (number,))
    log = bytearray((tmp_path / "x-wal").read_bytes())
    shell.close()
    assert not wal.is_damaged(bytes(log))
    log[3] ^= 1  # says the other order, and no sum fits any more
    assert wal.is_damaged(bytes(log))

"""The city's books in both databases: what goes in, what stays, what is refused."""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st

from backoffice import book, receive, rows, schema
from backoffice.city import BooksAway
from backoffice.copying import END, SIGNATURE, Copying
from backoffice.receive import Answer, alone
from backoffice.store import Store
from ledger.batch import Batch
from ledger.codec import decode, encode
from ledger.entry import Counters, Entry, Fare, Flags, Kind, Medium, Outcome, Place, Versions, When
from ledger.notes import Loss, LossReason

MakeVehicle = Callable[..., Any]
KID = b"kid 0001"
NOW = 1_770_000_000_000


def send(books: Store, batch: Batch, at_ms: int = NOW) -> Answer:
    """The batch, in a seal that is its own."""
    return books.receive(repr(batch).encode(), KID, batch, at_ms)


def count(books: Store, table: sa.Table) -> int:
    with books.reading() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def all_of(books: Store, table: sa.Table, *columns: str) -> list[Any]:
    with books.reading() as connection:
        return list(map(tuple, connection.execute(sa.select(*(table.c[name] for name in columns)).order_by(*table.primary_key.columns))))


# --- what goes in -------------------------------------------------------------------------------------------------------------------------


def test_a_batch_is_booked_entry_by_entry_with_its_postings(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle(count=40)
    answer = send(books, bus.batch(1, 40))
    assert answer == Answer(41, bus.hashes[40], accepted=40)
    expected = [decode(data, device=bus.device, epoch=bus.epoch) for data in bus.entries]
    with books.reading() as connection:
        found = connection.execute(sa.select(*(schema.entry.c[name] for name in rows.ENTRY)).order_by(schema.entry.c.seq)).all()
    assert [rows.entry_of(row) for row in found] == expected
    assert [row.digest for row in found] == [receive.digest_of(data) for data in bus.entries]
    booked = Counter(posting for entry in expected for posting in book.postings_of(entry))
    kept = all_of(books, schema.posting, "leg", "kind", "debit", "credit", "amount")
    assert Counter(kept) == Counter((leg, int(kind), debit, credit, amount) for leg, kind, debit, credit, amount in booked.elements())


def test_the_sealed_message_is_kept_as_it_came(books: Store, vehicle: MakeVehicle) -> None:
    batch = vehicle().batch(1, 5)
    books.receive(b"sealed \x00 bytes", KID, batch, NOW)
    kept = all_of(books, schema.batch, "sealed", "digest", "kid", "first_seq", "last_seq", "received_ms")
    assert kept == [(b"sealed \x00 bytes", hashlib.sha256(b"sealed \x00 bytes").digest(), KID, 1, 5, NOW)]


def test_the_same_message_again_is_known_as_a_whole(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle()
    first = send(books, bus.batch(1, 20))
    again = send(books, bus.batch(1, 20))
    assert again == Answer(first.next_seq, first.head, duplicate=20, replayed=True)
    assert count(books, schema.batch) == 1


def test_the_same_entries_in_another_cut_are_duplicates_and_are_not_kept_again(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle()
    send(books, bus.batch(1, 20))
    answer = send(books, bus.batch(3, 15))
    assert (answer.accepted, answer.duplicate, answer.next_seq) == (0, 13, 21)
    assert count(books, schema.batch) == 1
    answer = send(books, bus.batch(15, 30))
    assert (answer.accepted, answer.duplicate, answer.next_seq) == (10, 6, 31)
    assert count(books, schema.entry) == 30


def test_what_comes_out_of_order_waits_as_islands_and_is_booked_at_once(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle()
    answer = send(books, bus.batch(31, 40))
    assert (answer.next_seq, answer.head, answer.holes, answer.accepted) == (1, bus.hashes[0], ((1, 30),), 10)
    answer = send(books, bus.batch(11, 20))
    assert answer.holes == ((1, 10), (21, 30))
    assert count(books, schema.island) == 2
    answer = send(books, bus.batch(5, 33))
    assert (answer.holes, answer.accepted, answer.duplicate) == (((1, 4),), 16, 13)
    answer = send(books, bus.batch(1, 4))
    assert (answer.next_seq, answer.head, answer.holes) == (41, bus.hashes[40], ())
    assert count(books, schema.island) == 0
    assert count(books, schema.alarm) == 0
    assert books.stored(bus.device, bus.epoch) == Answer(41, bus.hashes[40])


def test_nothing_is_stored_of_a_ledger_that_nobody_heard_of(books: Store, vehicle: MakeVehicle) -> None:
    assert books.stored(1, 2) == Answer(1, vehicle(1, 2).hashes[0])


def test_ledgers_are_numbered_as_the_city_hears_of_them(books: Store, vehicle: MakeVehicle) -> None:
    for epoch in (9, 3, 5):
        send(books, vehicle(1, epoch).batch(1, 2))
    send(books, vehicle(2, 8).batch(1, 2))
    assert sorted(all_of(books, schema.ledger, "device", "number", "epoch")) == [(1, 1, 9), (1, 2, 3), (1, 3, 5), (2, 1, 8)]


def test_numbers_as_large_as_a_ledger_may_have_are_stored(books: Store) -> None:
    largest = 2**63 - 1
    entry = Entry(
        Kind.BOOT, When(largest, rows.LAST_MS, NOW, 2), Place(shift=largest), ref=largest, device=largest, epoch=largest, seq=largest
    )
    batch = Batch(largest, largest, largest, bytes(range(32)), (encode(entry),), NOW)
    answer = send(books, batch)
    assert (answer.next_seq, answer.holes, answer.accepted) == (1, ((1, largest - 1),), 1)
    assert send(books, replace(batch, created_ms=1)).duplicate == 1


# --- what stays ---------------------------------------------------------------------------------------------------------------------------


def test_other_content_under_one_number_is_an_alarm_and_never_overwrites(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle()
    send(books, bus.batch(1, 20))
    answer = send(books, bus.rewritten(12).batch(9, 25))
    assert (answer.conflict, answer.duplicate, answer.accepted) == (1, 11, 5)
    assert answer.rejects == ((12, "conflict"),)
    assert all_of(books, schema.entry, "seq", "digest")[11] == (12, receive.digest_of(bus.entries[11]))
    assert [row for row in all_of(books, schema.posting, "seq", "amount") if row[0] == 12] == [(12, 100), (12, 100)]
    assert sorted(all_of(books, schema.alarm, "kind", "seq")) == [("chain", 21), ("conflict", 12)]
    assert all_of(books, schema.reject, "seq", "code", "data") == [(12, "conflict", bus.rewritten(12).entries[11])]


def test_a_batch_sent_again_after_a_conflict_hears_of_its_own_entries_only(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle(count=20)
    broken = bus.rewritten(9, b"broken")
    assert send(books, broken.batch(1, 20)).rejects == ((9, "malformed"),)
    assert send(books, bus.rewritten(12).batch(5, 14)).rejects == ((9, "conflict"), (12, "conflict"))
    again = send(books, broken.batch(1, 20))
    assert (again.replayed, again.rejects) == (True, ((9, "malformed"),))
    other = send(books, bus.rewritten(12).batch(5, 14))
    assert (other.replayed, other.rejects) == (True, ((9, "conflict"), (12, "conflict")))


def test_a_conflict_is_one_alarm_however_often_it_is_sent(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle()
    send(books, bus.batch(1, 20))
    other = bus.rewritten(12)
    for first in (1, 5, 5, 9):
        answer = send(books, other.batch(first, 20))
        assert answer.rejects == ((12, "conflict"),)
    assert sorted(all_of(books, schema.alarm, "kind", "seq")) == [("chain", 21), ("conflict", 12)]
    assert count(books, schema.reject) == 1


def test_a_rewritten_tail_breaks_the_chain_and_is_kept(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle()
    send(books, bus.batch(1, 20))
    other = bus.rewritten(12)
    answer = send(books, other.batch(21, 30))
    assert (answer.accepted, answer.next_seq, answer.head) == (10, 31, other.hashes[30])
    assert all_of(books, schema.alarm, "kind", "device", "epoch", "seq") == [("chain", bus.device, bus.epoch, 21)]


def test_a_bad_entry_goes_to_quarantine_and_does_not_hold_up_the_rest(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle().rewritten(5, b"\xff rubbish")
    answer = send(books, bus.batch(1, 20))
    assert (answer.accepted, answer.rejected, answer.next_seq, answer.rejects) == (19, 1, 21, ((5, "malformed"),))
    assert all_of(books, schema.reject, "seq", "code", "data") == [(5, "malformed", b"\xff rubbish")]
    assert send(books, bus.batch(1, 20)).rejects == ((5, "malformed"),)
    again = send(books, bus.batch(4, 6))
    assert (again.rejects, again.duplicate, again.next_seq) == (((5, "malformed"),), 3, 21)


def test_an_entry_of_a_newer_version_is_held_and_booked_by_a_newer_program(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle()
    newer = bus.rewritten(5, bytes((0x82, 2, 5)))
    answer = send(books, newer.batch(1, 20))
    assert (answer.accepted, answer.held, answer.next_seq, answer.rejects) == (19, 1, 21, ((5, "later"),))
    assert send(books, newer.batch(1, 20)).rejects == ((5, "later"),)
    assert send(books, newer.batch(5, 5)).rejects == ((5, "later"),)
    assert books.release(NOW + 1) == 0  # this program still does not know the version
    assert send(books, bus.batch(5, 5)).rejects == ((5, "conflict"),)


def test_what_was_held_is_booked_once_it_can_be_read(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle()
    send(books, bus.batch(1, 3))
    # As if an older program had received entry 4 of this program's version.
    row = {"device": bus.device, "epoch": bus.epoch, "seq": 4, "received_ms": NOW, "version": 1}
    with books.writing() as connection:
        held = row | {"digest": receive.digest_of(bus.entries[3]), "data": bus.entries[3]}
        connection.execute(sa.insert(schema.held).values(held))
    assert books.release(NOW + 5) == 1
    assert books.release(NOW + 6) == 0
    assert all_of(books, schema.entry, "seq", "received_ms")[3] == (4, NOW + 5)
    assert all_of(books, schema.held, "released_ms") == [(NOW + 5,)]
    assert len([row for row in all_of(books, schema.posting, "seq") if row == (4,)]) == 1


def test_a_hole_is_closed_by_a_signed_loss_and_by_nothing_else(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle()
    send(books, bus.batch(1, 10))
    send(books, bus.batch(21, 30))
    loss = Loss(bus.device, bus.epoch, 11, 20, LossReason.UNREADABLE, When(1, 2, NOW, 3))
    for _ in range(2):
        answer = books.lost(loss, b"sealed loss", KID, NOW)
        assert (answer.next_seq, answer.holes, answer.head) == (31, (), bus.hashes[30])
    assert all_of(books, schema.loss, "first_seq", "last_seq", "reason", "sealed") == [(11, 20, "unreadable", b"sealed loss")]
    assert all_of(books, schema.ledger, "closed") == [(False,)]


def test_entries_that_were_said_to_be_lost_and_come_after_all_are_booked(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle()
    send(books, bus.batch(1, 10))
    send(books, bus.batch(21, 30))
    books.lost(Loss(bus.device, bus.epoch, 11, 0, LossReason.MISSING, When(1, 2, NOW, 3)), b"sealed loss", KID, NOW)
    assert all_of(books, schema.ledger, "closed", "next_seq") == [(True, 31)]
    answer = send(books, bus.batch(9, 14))
    assert (answer.accepted, answer.duplicate, answer.next_seq) == (4, 2, 31)
    assert count(books, schema.alarm) == 0


# --- what is refused ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [schema.entry, schema.posting, schema.batch], ids=str)
def test_what_is_written_once_cannot_be_changed_or_deleted_by_the_program(books: Store, vehicle: MakeVehicle, table: sa.Table) -> None:
    send(books, vehicle().batch(1, 20))
    for statement in (sa.update(table).values(device=1), sa.delete(table)):
        with pytest.raises(sa.exc.DBAPIError, match=r"written once|permission denied"), books.writing() as connection:
            connection.execute(statement)


def test_not_even_the_database_s_owner_changes_it_by_mistake(postgresql: Any, vehicle: MakeVehicle) -> None:
    database = postgresql.new_database("books_1")
    with Store.open(postgresql.url(database)) as books:
        send(books, vehicle().batch(1, 20))
    for statement in ("UPDATE entry SET points = 0", "DELETE FROM posting", "TRUNCATE batch"):
        with pytest.raises(psycopg.errors.RaiseException, match="is written once"):
            postgresql.execute(statement, database=database)


def test_the_program_works_in_a_role_without_the_right_to_change(postgresql: Any) -> None:
    with Store.open(postgresql.url(postgresql.new_database("books_1"))) as books, books.reading() as connection:
        asked = "SELECT current_user, has_table_privilege('entry', 'UPDATE'), has_table_privilege('posting', 'DELETE'), "
        assert tuple(connection.exec_driver_sql(asked + "has_table_privilege('entry', 'INSERT')").one()) == (
            schema.ROLE,
            False,
            False,
            True,
        )


def test_a_user_who_is_no_administrator_can_have_books(postgresql: Any, vehicle: MakeVehicle) -> None:
    database = postgresql.new_database()
    user = f"city_of_{database}"
    postgresql.execute(f"CREATE ROLE {user} LOGIN CREATEROLE", f"ALTER DATABASE {database} OWNER TO {user}")
    with Store.open(postgresql.url(database, user)) as books:
        books.migrate()
        assert send(books, vehicle().batch(1, 20)).accepted == 20
        with books.reading() as connection:
            assert connection.scalar(sa.text("SELECT current_user")) == schema.ROLE


def test_a_user_who_may_not_make_the_role_is_told_what_to_ask_for(postgresql: Any) -> None:
    database = postgresql.new_database()
    user = f"poor_of_{database}"
    postgresql.execute(f"CREATE ROLE {user} LOGIN", f"ALTER DATABASE {database} OWNER TO {user}")
    with Store.open(postgresql.url(database, user)) as books, pytest.raises(BooksAway, match=f"GRANT {schema.ROLE} TO"):
        books.migrate()


def test_the_tables_that_the_steps_make_are_those_that_the_program_asks_for(books: Store) -> None:
    with books.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_migrating_again_changes_nothing(books: Store, vehicle: MakeVehicle) -> None:
    send(books, vehicle().batch(1, 20))
    books.migrate()
    assert count(books, schema.entry) == 20


def test_books_of_before_vehicles_counted_keep_their_heartbeats_which_counted_nothing(books: Store) -> None:
    columns = [column.name for column in schema.heartbeat.columns if column.name not in {"counts", "up_s"}]
    values = dict.fromkeys(columns, 1) | dict.fromkeys(("rules_software", "software"), "1") | {"selftest": {"reader": 0}}
    values |= dict.fromkeys(("head_hash", "table_version", "scheme_version", "operator_version"), b"1")
    old = sa.table("heartbeat", *(sa.column(name, schema.heartbeat.c[name].type) for name in columns))
    owner = sa.create_engine(books.engine.url)  # the program itself may neither drop nor make a column
    with owner.begin() as connection:
        for name in ("counts", "up_s"):
            connection.exec_driver_sql(f"ALTER TABLE heartbeat DROP COLUMN {name}")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0004'")
        connection.execute(sa.insert(old).values(values))
    owner.dispose()

    books.migrate()

    with books.reading() as connection:
        row = connection.execute(sa.select(schema.heartbeat.c.counts, schema.heartbeat.c.up_s)).one()
    assert tuple(row) == ({}, 0)


def test_two_programs_that_start_at_once_migrate_once(url: str) -> None:
    stores = [Store.open(url) for _ in range(3)]
    threads = [threading.Thread(target=store.migrate) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        assert count(store, schema.entry) == 0
        store.close()


def test_books_that_do_not_answer_are_away(tmp_path: Path) -> None:
    with Store.open(f"postgresql://nobody@/nothing?host={tmp_path}") as books, pytest.raises(BooksAway):
        books.stored(1, 1)


def test_a_batch_that_fails_half_way_leaves_nothing(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle()
    send(books, bus.batch(1, 10))
    with books.writing() as connection:  # somebody else's row stands where a posting of entry 15 belongs
        row = {"device": bus.device, "epoch": bus.epoch, "seq": 15, "leg": 1, "kind": 1, "debit": "a", "credit": "b", "amount": 1}
        connection.execute(sa.insert(schema.posting).values(row | {"service_day": 1, "at_ms": 1}))
    with pytest.raises((sa.exc.IntegrityError, psycopg.errors.UniqueViolation)):
        send(books, bus.batch(11, 20))
    assert (count(books, schema.entry), count(books, schema.batch), books.stored(bus.device, bus.epoch).next_seq) == (10, 1, 11)
    assert send(books, bus.batch(11, 14)).accepted == 4


def test_many_threads_bring_one_ledger_and_it_is_there_once(books: Store, vehicle: MakeVehicle) -> None:
    bus = vehicle(count=200)

    def bring(step: int) -> None:
        for first in range(1, 200, step):
            send(books, bus.batch(first, min(first + step + 3, 200)))

    threads = [threading.Thread(target=bring, args=(step,)) for step in (7, 20, 20, 33)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert books.stored(bus.device, bus.epoch) == Answer(201, bus.hashes[200])
    assert count(books, schema.entry) == 200
    assert count(books, schema.alarm) == 0
    expected = sum(len(book.postings_of(decode(data, device=bus.device, epoch=bus.epoch))) for data in bus.entries)
    assert count(books, schema.posting) == expected


# --- rows ---------------------------------------------------------------------------------------------------------------------------------


def test_rows_have_the_columns_of_the_tables_in_their_order() -> None:
    assert list(rows.ENTRY) == [column.name for column in schema.entry.columns]
    assert list(rows.POSTING) == [column.name for column in schema.posting.columns][: len(rows.POSTING)]


words = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=8)
small = st.integers(0, 2**31 - 1)
wide = st.integers(0, 2**63 - 1)
purses = st.builds(
    Counters, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(min_size=8, max_size=8), st.integers(0, 2**24 - 1)
)
media = st.builds(Medium, st.binary(min_size=8, max_size=8), wide, wide, st.binary(max_size=8), purses) | st.builds(
    Medium, st.binary(min_size=8, max_size=8), wide, wide, st.binary(max_size=8), purses, purses
)
entries = st.builds(
    Entry,
    kind=st.sampled_from(Kind),
    when=st.builds(When, wide, st.integers(0, rows.LAST_MS), st.integers(0, rows.LAST_MS), small),
    place=st.builds(Place, words, words, wide, words, words, words, words, st.integers(0, rows.LAST_DAY)),
    medium=st.none() | media,
    fare=st.builds(Fare, small, small, small, small, small),
    versions=st.builds(Versions, st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8), words, small, small),
    flags=st.integers(0, 63).map(Flags),
    outcome=st.sampled_from(Outcome),
    ref=wide,
    row=words,
    reason=words,
    device=wide,
    epoch=wide,
    seq=wide,
)


@given(entry=entries)
def test_an_entry_comes_back_from_its_row_as_it_was(entry: Entry) -> None:
    assert rows.flaw(entry) == ""
    assert [rows.entry_of(row) for row in rows_of(entry)] == [entry]


@given(entry=entries)
def test_an_entry_books_the_same_by_columns_as_by_itself(entry: Entry) -> None:
    batch = alone(entry.device, entry.epoch, entry.seq, encode(entry))
    booked = [(row[5], row[7], row[8], row[9], row[3]) for row in rows.posting_rows(batch, {entry.seq: b""}, NOW)]
    assert booked == [tuple(posting) for posting in book.postings_of(entry)]


FLAWED: dict[str, dict[str, Any]] = {
    "a fare that no ride has": {"fare": Fare(nominal=2**31)},
    "coins that no ride has": {"fare": Fare(cash=2**40)},
    "a clock of no state": {"when": When(1, 1, 1, 2**31)},
    "a time that no calendar has": {"when": When(1, 1, rows.LAST_MS + 1, 0)},
    "a running time that no terminal has": {"when": When(1, rows.LAST_MS + 1, 1, 0)},
    "a day that no calendar has": {"place": Place(service_day=rows.LAST_DAY + 1)},
    "a NUL in its reason": {"reason": "\0"},
    "a NUL in its trip": {"place": Place(trip="\0")},
    "nothing": {},
}


@given(flaw=st.sampled_from(list(FLAWED)), others=st.lists(entries, max_size=3))
def test_a_flaw_is_found_among_others_and_none_where_there_is_none(flaw: str, others: list[Entry]) -> None:
    one = replace(Entry(Kind.BOOT, When(1, 1, 1, 0)), **FLAWED[flaw])
    data = [encode(replace(each, device=0, epoch=0, seq=seq)) for seq, each in enumerate((*others, one), 1)]
    found = rows.flaws(Batch(0, 0, 1, bytes(32), tuple(data), 0))
    assert found == ({} if flaw == "nothing" else {len(data): rows.flaw(one)})


@given(many=st.lists(entries, max_size=4))
def test_a_copy_is_what_the_library_would_have_written(many: list[Entry]) -> None:
    values = [row for entry in many for row in rows_of(entry)]
    shapes = [_shape(row) for row in values]
    values.sort(key=lambda row: shapes.index(_shape(row)))
    widths = [8] * 15 + [4] * 11 + [2] * 3
    widths[15:17] = [4, 4]
    fields = [_field(value, width) for row in values for value, width in zip(row, [*widths, *[0] * 17], strict=True)]
    expected = b"".join((b"" if at % 46 else (46).to_bytes(2, "big")) + field for at, field in enumerate(fields))
    assert Copying(widths, range(9, 17), (34, 42), 46).pack(values) == SIGNATURE + expected + END


def rows_of(entry: Entry) -> list[rows.Row]:
    return rows.entry_rows(alone(entry.device, entry.epoch, entry.seq, encode(entry)), {entry.seq: bytes(16)}, NOW)


def _shape(row: rows.Row) -> list[bool]:
    return [value is None for value in row[9:17]]


def _field(value: Any, width: int) -> bytes:
    if value is None:
        return (-1).to_bytes(4, "big", signed=True)
    data = value.to_bytes(width, "big", signed=True) if width else value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(4, "big") + bytes(data)

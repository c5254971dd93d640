"""A city's books move from SQLite to PostgreSQL, interrupted or not, and are the same afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from backoffice import schema
from backoffice.move import CannotMove, move
from backoffice.store import Store
from ledger.entry import When
from ledger.notes import Loss, LossReason

MakeVehicle = Callable[..., Any]
NOW = 1_770_000_000_000


@pytest.fixture
def old(tmp_path: Path, vehicle: MakeVehicle) -> str:
    """Books with something in every table that receiving fills."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    with Store.open(url) as books:
        books.migrate()
        for device in range(1, 6):
            bus = vehicle(device, 10 * device, 60)
            for first, last in ((1, 20), (15, 40), (51, 60)):
                books.receive(f"{device} {first}".encode(), b"kid 0001", bus.batch(first, last), NOW)
        bus = vehicle(5, 50, 60)
        books.receive(b"other", b"kid 0001", bus.rewritten(30, b"rubbish").batch(28, 32), NOW)
        books.receive(b"new", b"kid 0001", vehicle(6, 60, 9).rewritten(3, bytes((0x82, 9, 3))).rewritten(4, b"rubbish").batch(1, 9), NOW)
        books.lost(Loss(4, 40, 41, 50, LossReason.MISSING, When(1, 2, NOW, 3)), b"loss", b"kid 0001", NOW)
        with books.writing() as connection:
            connection.execute(
                sa.insert(schema.settlement).values(operator="港", month=202604, kind="bill", at_ms=1, figures={"円": [1, 2]})
            )
    return url


@pytest.fixture
def new(postgresql: Any) -> str:
    return str(postgresql.url(postgresql.new_database()))


def everything(url: str) -> dict[str, list[Any]]:
    with Store.open(url) as books, books.reading() as connection:
        tables = schema.metadata.sorted_tables
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))]
            for table in tables
        }


def test_moved_books_are_the_same_in_every_row(old: str, new: str) -> None:
    said: list[str] = []
    moved = move(old, new, said.append)
    assert everything(new) == everything(old)
    assert moved.rows["entry"] == len(everything(old)["entry"])
    assert moved.ledgers == 6
    assert {"entry", "posting", "batch", "ledger", "island", "reject", "held", "alarm", "loss", "settlement"} <= set(moved.rows)
    assert said[-1] == "comparing"


def test_a_move_that_was_interrupted_anywhere_goes_on_where_it_was(old: str, postgresql: Any) -> None:
    class Interrupted(Exception):
        pass

    for steps in (1, 4, 9, 15):
        new = postgresql.url(postgresql.new_database())
        said: list[str] = []

        def say(words: str, said: list[str] = said, steps: int = steps) -> None:
            said.append(words)
            if len(said) == steps:
                raise Interrupted

        with pytest.raises(Interrupted):
            move(old, new, say, step=37)
        again: list[str] = []
        move(old, new, again.append, step=37)
        assert everything(new) == everything(old)
        assert not set(said[:-1]) & set(again[:-1])


def test_a_finished_move_may_be_asked_for_again(old: str, new: str) -> None:
    move(old, new, str)
    assert move(old, new, str).ledgers == 6
    assert everything(new) == everything(old)


def test_the_moved_books_go_on(old: str, new: str, vehicle: MakeVehicle) -> None:
    move(old, new, str)
    with Store.open(new) as books:
        bus = vehicle(1, 10, 60)
        answer = books.receive(b"next", b"kid 0001", bus.batch(41, 55), NOW)
        assert (answer.accepted, answer.duplicate, answer.next_seq) == (10, 5, 61)
        again = books.receive(b"1 1", b"kid 0001", bus.batch(1, 20), NOW)
        assert again.replayed


def test_books_that_changed_between_two_attempts_are_not_mixed(old: str, new: str, vehicle: MakeVehicle) -> None:
    move(old, new, str)
    with Store.open(old) as books:
        books.receive(b"late", b"kid 0001", vehicle(1, 10, 60).batch(41, 50), NOW)
    with pytest.raises(CannotMove, match="Make a new, empty database"):
        move(old, new, str)


def test_books_are_moved_in_one_direction_only(old: str, new: str) -> None:
    with pytest.raises(CannotMove, match="not the other way"):
        move(new, old, str)


def test_the_old_books_take_nothing_in_while_they_are_moved(old: str, new: str) -> None:
    seen: list[bool] = []

    def say(_: str) -> None:
        path = sa.make_url(old).database
        engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
        with engine.connect() as connection, pytest.raises(sa.exc.OperationalError, match="locked"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        engine.dispose()
        seen.append(True)

    move(old, new, say)
    assert seen

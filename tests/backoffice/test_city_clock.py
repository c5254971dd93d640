"""The city's clock is one of the things it is put together of."""

from datetime import date
from pathlib import Path

from sqlalchemy import select

from backoffice import compose, schema
from backoffice.settings import default
from drivers.signing import Ed25519Key
from ledger import package
from ledger.package import Package, PackageKind
from ledger.seal import Content, seal


def test_a_city_that_is_given_a_clock_dates_by_it(tmp_path: Path) -> None:
    key, settings = Ed25519Key(bytes(32)), default(tmp_path)
    sealed = seal(key, Content.PACKAGE, package.encode(Package(PackageKind.WORDS, 1, date(2026, 4, 1), 1, b"words")))
    with compose.open_city(settings, (key,), lambda: 777) as city:
        city.offer(sealed)
    with compose.open_store(settings) as store, store.reading() as connection:
        assert connection.scalars(select(schema.package.c.created_ms)).all() == [777]

"""``ledger.package``: one form, and nothing else is taken."""

import hashlib
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import compress, package, strict
from ledger.package import MalformedPackage, Package, PackageKind

TABLE = Package(PackageKind.FARE_TABLE, 3, date(2026, 4, 1), 1_770_000_000_000, b"fares")


def parts(**changes: object) -> bytes:
    """The payload of ``TABLE`` with some fields replaced."""
    names = ("format", "kind", "version", "day", "created", "released", "digest", "file")
    values: list[object] = [
        1,
        "fare-table",
        3,
        20_544,
        1_770_000_000_000,
        0,
        hashlib.sha256(b"fares").digest(),
        compress.compress(b"fares", 19),
    ]
    return strict.write(tuple(changes.get(name, value) for name, value in zip(names, values, strict=True)))


@given(
    st.builds(
        Package,
        st.sampled_from(PackageKind),
        st.integers(1, strict.MAX),
        st.dates(date(1970, 1, 1)),
        st.integers(0, strict.MAX),
        st.binary(max_size=200),
        st.booleans(),
    )
)
def test_a_package_reads_back_as_it_was(one: Package) -> None:
    assert package.decode(package.encode(one)) == one


def test_the_bytes_are_the_array_that_is_described() -> None:
    assert package.encode(TABLE) == parts()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"kind": "fares"},
        {"kind": b"fare-table"},
        {"version": 0},
        {"day": 2**40},
        {"released": 2},
        {"file": compress.compress(b"other", 19)},
        {"file": b"fares"},
        {"digest": bytes(32)},
    ],
)
def test_anything_else_is_refused_in_a_sentence(change: dict[str, object]) -> None:
    with pytest.raises(MalformedPackage, match=r"^The (package|file) .*\.$"):
        package.decode(parts(**change))


@given(st.binary(max_size=80))
def test_any_bytes_are_a_package_or_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedPackage):
        package.decode(data)


def test_a_cut_package_is_refused_wherever_it_is_cut() -> None:
    whole = package.encode(TABLE)
    for end in range(len(whole)):
        with pytest.raises(MalformedPackage):
            package.decode(whole[:end])


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = compress.compress(bytes(package.MAX_FILE + 1), 3)
    with pytest.raises(MalformedPackage, match="no more than"):
        package.decode(parts(file=bomb))


@pytest.mark.parametrize(
    "change", [{"version": 0}, {"created_ms": -1}, {"valid_from": date(1969, 12, 31)}, {"file": bytes(package.MAX_FILE + 1)}]
)
def test_what_no_terminal_would_take_is_not_packed(change: dict[str, object]) -> None:
    with pytest.raises(MalformedPackage):
        package.encode(replace(TABLE, **change))


def test_its_name_for_people_holds_no_more_than_they_need() -> None:
    assert str(TABLE) == f"fare-table 3, from 2026-04-01, {hashlib.sha256(b'fares').hexdigest()[:16]}"

"""``firmware.simulation``: ledgers as stations write them, and a truth that fits them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest

from drivers.cards.purse import Counters, contradiction
from firmware.rehearsal import ZONE, tariff
from firmware.simulation import NO_MISTAKES, Mistakes, Run, Simulation, Wish
from ledger.batch import Batch
from ledger.chain import Check, Link, follow, origin
from ledger.codec import decode, encode
from ledger.entry import Entry, Flags, Kind, Outcome
from validator.journey import Tariff

TOWN = tariff()
OFTEN = Mistakes(
    forgot_stop=400,
    overshot=300,
    no_boarding_tap=600,
    lost_ticket=900,
    touched_twice=900,
    pulled_hand=500,
    found_again=400,
    power_cut=200,
    walked_off=6000,
    pair=900,
    child=500,
    clock_off=2000,
    clock_unset=3000,
    practice=3000,
    late=3000,
    new_epoch=5000,
    blocked=300,
    short=4000,
)
WISH = Wish(vehicles=3, days=4, seed=1, first_day=date(2026, 4, 6), rides=60, riders=60, mistakes=OFTEN)


def live(wish: Wish, *, rules: Sequence[Tariff] = (TOWN,), quick: bool = True) -> tuple[Simulation, list[Run]]:
    town = Simulation(wish, rules, ZONE, "0.1.0", quick=quick)
    return town, list(town.runs())


def entries_of(runs: Sequence[Run]) -> list[Entry]:
    return [decode(data, device=run.batch.device, epoch=run.batch.epoch) for run in runs for data in run.batch.entries]


@pytest.fixture(scope="module")
def lived() -> tuple[Simulation, list[Run], list[Entry]]:
    town, runs = live(WISH)
    return town, runs, entries_of(runs)


Lived = tuple[Simulation, list[Run], list[Entry]]


def test_the_same_wish_gives_the_same_bytes(lived: Lived) -> None:
    assert live(WISH)[1] == lived[1]


def test_another_seed_gives_another_town(lived: Lived) -> None:
    assert live(replace(WISH, seed=2))[1] != lived[1]


@pytest.mark.parametrize("seed", range(3))
def test_the_shortcut_decides_every_touch_as_the_journey_does(seed: int) -> None:
    wish = replace(WISH, seed=seed, days=2)
    assert live(wish, quick=True)[1] == live(wish, quick=False)[1]


def test_every_entry_is_one_that_a_ledger_would_take(lived: Lived) -> None:
    for run in lived[1]:
        for data in run.batch.entries:
            assert encode(decode(data, device=run.batch.device, epoch=run.batch.epoch)) == data


def test_every_ledger_is_whole_from_its_first_entry_to_its_last(lived: Lived) -> None:
    ledgers: defaultdict[tuple[int, int], list[Batch]] = defaultdict(list)
    for run in lived[1]:
        ledgers[run.batch.device, run.batch.epoch].append(run.batch)
    for (device, epoch), batches in ledgers.items():
        check = Check(origin(device, epoch), device, epoch)
        before = origin(device, epoch).hash
        for one in batches:
            assert one.previous == before
            for seq, data in enumerate(one.entries, one.first_seq):
                before = follow(before, data)
                entry = decode(data, device=device, epoch=epoch)
                check.take(Link(seq, data, before, entry.medium.rider if entry.medium else None, entry.kind))
        assert check.close() == []
    assert len(ledgers) > WISH.vehicles, "some vehicle should have begun a new epoch"


def test_each_purse_goes_on_where_it_was_whichever_vehicle_reads_it(lived: Lived) -> None:
    seen: defaultdict[bytes, list[Counters]] = defaultdict(list)
    for entry in lived[2]:
        if entry.medium and entry.medium.before and entry.medium.after and entry.kind in {Kind.PAID, Kind.FREE, Kind.OPEN}:
            seen[entry.medium.rider] += [entry.medium.before, entry.medium.after]
    assert all(contradiction(readings) is None for readings in seen.values())


def test_what_is_gone_from_the_cards_is_booked_or_named_as_unknown(lived: Lived) -> None:
    town, _, _ = lived
    lost = sum(fate.points for fate in town.truth.unknown if fate.done and not fate.resolved)
    assert sum(rider.counters.spent for rider in town.riders) == sum(rider.booked for rider in town.riders) + lost
    assert lost > 0


def test_the_truth_of_the_months_is_the_sum_of_the_entries(lived: Lived) -> None:
    town, _, entries = lived
    real = [entry for entry in entries if not entry.flags & Flags.PRACTICE]
    months = town.truth.months.values()
    paid = [entry for entry in real if entry.counts_as_paid]
    assert sum(month.rides for month in months) == len(paid)
    assert sum(month.points for month in months) == sum(entry.fare.points for entry in paid)
    assert sum(month.cash for month in months) == sum(entry.fare.cash for entry in paid)
    free = [entry.fare.nominal for entry in real if entry.kind is Kind.FREE]
    assert (sum(month.free_rides for month in months), sum(month.free_nominal for month in months)) == (len(free), sum(free))
    assert town.truth.entries == len(entries)


def test_every_mistake_that_people_make_is_in_it(lived: Lived) -> None:
    town, runs, entries = lived
    kinds = Counter(entry.kind for entry in entries)
    assert {
        Kind.BOOT,
        Kind.SHIFT_OPEN,
        Kind.SHIFT_CLOSE,
        Kind.TRIP_OPEN,
        Kind.TRIP_CLOSE,
        Kind.STOP_SET,
        Kind.POWER_LOSS,
        Kind.EPOCH,
    } < set(kinds)
    assert {Kind.OPEN, Kind.PAID, Kind.UNKNOWN, Kind.RESOLVED, Kind.FREE, Kind.UNPRICED, Kind.REFUSED} < set(kinds)
    flags = Flags.NONE
    for entry in entries:
        flags |= entry.flags
    assert flags == sum(Flags)
    assert {entry.outcome for entry in entries} == set(Outcome)
    assert town.truth.silent > 0
    assert town.truth.wrong_stops
    assert any(entry.fare.points and entry.fare.cash for entry in entries), "nobody's purse was too short"
    assert any(run.arrives_ms - run.batch.created_ms > 86_400_000 for run in runs), "nothing came late"


def test_a_town_without_mistakes_has_none() -> None:
    town, runs = live(replace(WISH, mistakes=NO_MISTAKES, days=2))
    entries = entries_of(runs)
    assert {entry.flags for entry in entries} <= {Flags.NONE, Flags.AMBIGUOUS_PRICE, Flags.DRIVER_FARE}, (
        "what the feed itself leaves open stays"
    )
    assert not {entry.kind for entry in entries} & {Kind.UNKNOWN, Kind.RESOLVED, Kind.REFUSED, Kind.EPOCH}
    assert (town.truth.unknown, town.truth.wrong_stops, town.truth.silent) == ([], [], 0)


def test_a_fiscal_year_begins_with_what_was_used_in_the_last() -> None:
    _, runs = live(replace(WISH, first_day=date(2027, 3, 30), days=4, riders=40, mistakes=NO_MISTAKES))
    numbers = {entry.medium.grant_number for entry in entries_of(runs) if entry.medium}
    assert numbers == {1, 2}


def test_two_operators_share_the_riders_and_not_the_money() -> None:
    other = replace(TOWN, operator=replace(TOWN.operator, id="oki", digest=b"operator"))
    town, _ = live(WISH, rules=(TOWN, other))
    assert {operator for operator, _ in town.truth.months} == {"minato", "oki"}


def test_a_wish_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="there must be a vehicle"):
        replace(WISH, vehicles=0)

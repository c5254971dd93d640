"""How long a price and a scheme's decision take; the bars are on the slowest of a hundred."""

import os
import random
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib import resources
from pathlib import Path

from rows import Row

from fares import files, gtfs, scheme
from fares.scheme import Question
from fares.table import FareTable, pack

LOOKS = 50_000
PRICE_BAR_US, DECISION_BAR_US = 50.0, 200.0
TOWN = Path(__file__).parents[2] / "examples" / "town"


def rows() -> list[Row]:
    """Price lookups on the real feed (on the town's when ``KAZASHI_DONAN`` names none, and then it says so), and scheme decisions."""
    named = os.environ.get("KAZASHI_DONAN", "")
    feed = Path(named) if named and Path(named).is_file() else TOWN
    table = FareTable.unpack(pack(gtfs.compile_feed(files.open_feed(feed))[0]))
    size = f"{len(table.stops())} stops, {len(table.routes())} routes" + (
        "" if feed != TOWN else "; the town's: KAZASHI_DONAN names no feed"
    )
    price_us, decision_us = _p99_us(_looks(table)), _p99_us(_decisions())
    return [
        Row(f"price lookup, p99 ({size})", f"{price_us:.1f} µs", f"≤ {PRICE_BAR_US:.0f} µs", price_us <= PRICE_BAR_US),
        Row("scheme decision, p99", f"{decision_us:.1f} µs", f"≤ {DECISION_BAR_US:.0f} µs", decision_us <= DECISION_BAR_US),
    ]


def _looks(table: FareTable) -> list[Callable[[], object]]:
    """Lookups of random stop pairs of random trips, adults and children."""
    chance = random.Random(1)
    trips = list(table.trips())
    classes = ["", *table.classes]
    looks: list[Callable[[], object]] = []
    for _ in range(LOOKS):
        trip = chance.choice(trips)
        boarding, alighting = (chance.choice(trip.calls).stop for _ in range(2))
        looks.append(partial(table.price, trip.route, boarding, alighting, chance.choice(classes)))
    return looks


def _decisions() -> list[Callable[[], object]]:
    chance = random.Random(2)
    silver = scheme.parse((resources.files("fares") / "schemes" / "silver_emica.toml").read_bytes(), "silver_emica.toml")
    decisions: list[Callable[[], object]] = []
    for _ in range(LOOKS):
        fare, lines = chance.randrange(100, 1000, 10), frozenset({"community"}) if chance.random() < 0.2 else frozenset[str]()
        question = Question(fare, fare, chance.randrange(2001), date(2026, 6, 1), lines)
        decisions.append(partial(silver.decide, question))
    return decisions


def _p99_us(jobs: list[Callable[[], object]]) -> float:
    taken_ns: list[int] = []
    for job in jobs:
        start = time.perf_counter_ns()
        job()
        taken_ns.append(time.perf_counter_ns() - start)
    return sorted(taken_ns)[len(taken_ns) * 99 // 100] / 1000

"""Why it costs this: the steps that made a price, and their sentences.

A price is nothing but the sum of its steps, so what is explained is what was charged; a test adds them up again. Steps carry stop names
and yen, never a rider.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum


class Why(Enum):
    """What a step is. The value is its English sentence, filled with the step's ``values``."""

    ADULTS = "{count} × adult, {boarding} to {alighting}, {unit} yen each"
    CHILDREN = "{count} × child, {boarding} to {alighting}, {unit} yen each"
    DRIVER = "the driver named the fare"
    WAIVED = "free for the card's holder ({line})"
    WAIVED_ALL = "free for everybody on this card ({line})"
    POINTS = "{points} points from the card, {rate} yen each"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a price: ``yen`` is added (below zero: taken off). ``notes`` are choices that were made on the way."""

    why: Why
    yen: int
    values: Mapping[str, int | str] = field(default_factory=dict[str, int | str])
    notes: tuple[str, ...] = ()


def total(steps: Iterable[Step]) -> int:
    """The yen that the steps add up to."""
    return sum(step.yen for step in steps)


def lines(steps: Iterable[Step], sum_is: str = "in all") -> list[str]:
    """The steps as lines for a person, each with its yen, and the sum below; ``sum_is`` says what the sum is."""
    steps = tuple(steps)
    told = [f"{step.yen:+7,d} yen  {sentence(step)}" for step in steps]
    return [*told, f"{total(steps):7,d} yen  {sum_is}"]


def sentence(step: Step) -> str:
    """The step in English, with its notes."""
    told = step.why.value.format(**step.values)
    return f"{told} ({'; '.join(step.notes)})" if step.notes else told

"""One measured figure of the bench, and its bar."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """``figure`` in words, the measured ``value`` and the ``bar`` with their units, and whether the bar is held."""

    figure: str
    value: str
    bar: str
    ok: bool

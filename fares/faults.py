"""The one error of this floor: a file of rules, fares or a timetable cannot be used as it is."""

from collections.abc import Iterable


class Unusable(Exception):
    """A file is refused; ``faults`` holds one sentence for each thing that is wrong: what, where, and what to do."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))

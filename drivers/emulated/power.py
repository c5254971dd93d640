"""The twin of a power line: somebody turns a key."""

from dataclasses import dataclass


@dataclass(slots=True)
class Key:
    """A ``drivers.devices.power.PowerLine`` with a key in it."""

    turned: bool = True

    def fed(self) -> bool:
        return self.turned

    def turn_off(self) -> None:
        """The driver goes."""
        self.turned = False

    def turn_on(self) -> None:
        """The driver is back."""
        self.turned = True

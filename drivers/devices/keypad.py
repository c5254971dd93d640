"""The driver's keys as values: what they ask for, how a mapping file names them, and how Linux reports them.

A driver presses a key while driving and looks at the road: one key, one wish, and no key that takes money or gives it back. Which
physical key carries which wish is the operator's file, because every bus has another keypad:

    [keys]
    KEY_KPPLUS = "next_stop"
    KEY_KP2 = "digit 2"
    96 = "enter"            # a Linux key code works as well as its name
"""

import struct
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, cast


class DriverKey(Enum):
    """What a driver can ask for; the value is its name in a mapping file."""

    NEXT_STOP = "next_stop"
    PREVIOUS_STOP = "previous_stop"
    PAIR = "pair"  # two people on the next card
    CHILD = "child"
    TICKET = "ticket"  # digits, then enter: the number of a numbered ticket
    FARE = "fare"  # digits, then enter: the fare
    STOP = "stop"  # digits, then enter: the boarding stop's number
    DIGIT = "digit"
    ENTER = "enter"
    CLEAR = "clear"
    TRIP = "trip"  # open or close the trip
    SHIFT = "shift"  # open or close the shift
    REPEAT = "repeat"  # say the last words again


@dataclass(frozen=True, slots=True)
class KeyPress:
    """One key going down; ``digit`` is 0 to 9 for DIGIT and 0 otherwise."""

    key: DriverKey
    digit: int = 0


class Keypad(Protocol):
    """A keypad."""

    def pressed(self) -> tuple[KeyPress, ...]:
        """What was pressed since the last time, in order; never waits, and never fails because a keypad is unplugged."""
        ...


class NoKeypad:
    """The keypad of a vehicle that has none: it is never pressed."""

    def pressed(self) -> tuple[KeyPress, ...]:
        """Nothing."""
        return ()


class KeypadMappingError(ValueError):
    """The mapping file is wrong; the text lists everything that is."""


# linux/input-event-codes.h, the keys that keypads have.
CODES: Mapping[str, int] = {
    "KEY_ESC": 1,
    **{f"KEY_{digit}": 1 + digit for digit in range(1, 10)},
    "KEY_0": 11,
    "KEY_MINUS": 12,
    "KEY_EQUAL": 13,
    "KEY_BACKSPACE": 14,
    "KEY_TAB": 15,
    "KEY_ENTER": 28,
    "KEY_SPACE": 57,
    "KEY_KPASTERISK": 55,
    **{f"KEY_F{number}": 58 + number for number in range(1, 11)},
    "KEY_NUMLOCK": 69,
    "KEY_KP7": 71,
    "KEY_KP8": 72,
    "KEY_KP9": 73,
    "KEY_KPMINUS": 74,
    "KEY_KP4": 75,
    "KEY_KP5": 76,
    "KEY_KP6": 77,
    "KEY_KPPLUS": 78,
    "KEY_KP1": 79,
    "KEY_KP2": 80,
    "KEY_KP3": 81,
    "KEY_KP0": 82,
    "KEY_KPDOT": 83,
    "KEY_F11": 87,
    "KEY_F12": 88,
    "KEY_KPENTER": 96,
    "KEY_KPSLASH": 98,
    "KEY_HOME": 102,
    "KEY_UP": 103,
    "KEY_PAGEUP": 104,
    "KEY_LEFT": 105,
    "KEY_RIGHT": 106,
    "KEY_END": 107,
    "KEY_DOWN": 108,
    "KEY_PAGEDOWN": 109,
    "KEY_INSERT": 110,
    "KEY_DELETE": 111,
}
_HIGHEST_CODE = 0x2FF  # KEY_MAX
_EV_KEY = 1
_DOWN = 1  # 0 is up, 2 is the kernel's repeat: a key that is held asks once
_EVENT = struct.Struct("@llHHi")  # struct input_event: seconds, microseconds, type, code, value; in the machine's own sizes


def parse_keys(text: str, file: str) -> dict[int, KeyPress]:
    """Linux key code → wish, from a mapping file's text; raises ``KeypadMappingError`` with every fault."""
    try:
        document: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KeypadMappingError(f"{file}: {error}") from error
    table = document.get("keys")
    if not isinstance(table, dict) or not table:
        raise KeypadMappingError(f'{file}: [keys] is missing: give lines like KEY_KPPLUS = "next_stop"')
    faults: list[str] = []
    keys: dict[int, KeyPress] = {}
    for name, wish in cast("dict[str, object]", table).items():
        code = _code(name)
        press = _wish(wish)
        if code is None:
            faults.append(f"{file}: keys.{name}: is no key; use a name of linux/input-event-codes.h for keypads, or its number")
        elif code in keys:
            faults.append(f"{file}: keys.{name}: this key has two wishes")
        if press is None:
            known = ", ".join(key.value for key in DriverKey if key is not DriverKey.DIGIT)
            faults.append(f'{file}: keys.{name}: {wish!r} is no wish; use one of {known}, "digit 0" … "digit 9"')
        if code is not None and press is not None:
            keys[code] = press
    if faults:
        raise KeypadMappingError("\n".join(faults))
    return keys


def read_events(data: bytes, keys: Mapping[int, KeyPress]) -> tuple[KeyPress, ...]:
    """The wishes in a run of whole ``struct input_event``; keys without a wish, releases and repeats are nothing."""
    whole = len(data) - len(data) % _EVENT.size
    pressed = [(code, kind, value) for _, _, kind, code, value in _EVENT.iter_unpack(data[:whole])]
    return tuple(keys[code] for code, kind, value in pressed if kind == _EV_KEY and value == _DOWN and code in keys)


def _code(name: str) -> int | None:
    if name.isascii() and name.isdigit() and 0 < int(name) <= _HIGHEST_CODE:
        return int(name)
    return CODES.get(name)


def _wish(written: object) -> KeyPress | None:
    match written.split() if isinstance(written, str) else []:
        case ["digit", digit] if len(digit) == 1 and digit in "0123456789":
            return KeyPress(DriverKey.DIGIT, int(digit))
        case [name] if name != DriverKey.DIGIT.value:
            return next((KeyPress(key) for key in DriverKey if key.value == name), None)
        case _:
            return None

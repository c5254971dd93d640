"""The driver's keys, from the kernel's events to wishes, and their twins."""

import os
import pty
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.devices.keypad import DriverKey, KeypadMappingError, KeyPress, parse_keys, read_events
from drivers.devices.keypad_input import InputDevice
from drivers.emulated.keypad import ScriptedKeypad, TerminalKeypad
from firmware.compose import ROOT, open_keypad
from firmware.failure import Failure

EXAMPLE = ROOT / "examples" / "keypad.toml"
KEYS = parse_keys(EXAMPLE.read_text(), "keypad.toml")
NEXT = KeyPress(DriverKey.NEXT_STOP)
SEVEN = KeyPress(DriverKey.DIGIT, 7)


def event(code: int, value: int, kind: int = 1) -> bytes:
    return struct.pack("@llHHi", 1_700_000_000, 0, kind, code, value)


def test_a_key_going_down_is_one_wish_and_going_up_or_held_is_none() -> None:
    held = event(78, 1) + event(0, 0, kind=0) + event(78, 2) + event(78, 2) + event(78, 0)
    assert read_events(held, KEYS) == (NEXT,)


def test_digits_say_which() -> None:
    assert read_events(event(71, 1) + event(78, 1), KEYS) == (SEVEN, NEXT)


def test_a_key_without_a_wish_is_nothing() -> None:
    assert read_events(event(30, 1), KEYS) == ()


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_a_fault(data: bytes) -> None:
    assert all(isinstance(press, KeyPress) for press in read_events(data, KEYS))


def test_the_example_gives_a_key_to_every_wish_and_digit() -> None:
    assert {press.key for press in KEYS.values()} == set(DriverKey)
    assert sorted(press.digit for press in KEYS.values() if press.key is DriverKey.DIGIT) == list(range(10))


def test_no_key_of_a_driver_takes_or_gives_back_money() -> None:
    assert not {"reset", "cancel", "refund", "pay"} & {key.value for key in DriverKey}


def test_a_wrong_mapping_names_every_fault() -> None:
    text = """
[keys]
KEY_KPPLUS = "next_stop"
78 = "pair"
KEY_NONE = "child"
9999 = "child"
KEY_F1 = "sing"
KEY_F2 = "digit 12"
KEY_F3 = "digit"
KEY_F4 = 4
"""
    with pytest.raises(KeypadMappingError) as refused:
        parse_keys(text, "bus.toml")
    lines = str(refused.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "keys.78",
        "keys.KEY_NONE",
        "keys.9999",
        "keys.KEY_F1",
        "keys.KEY_F2",
        "keys.KEY_F3",
        "keys.KEY_F4",
    ]


@pytest.mark.parametrize(("text", "fault"), [("", r"\[keys\] is missing"), ("keys = 3", r"\[keys\] is missing"), ("[keys", "bus.toml: ")])
def test_a_file_without_keys_is_one_sentence(text: str, fault: str) -> None:
    with pytest.raises(KeypadMappingError, match=fault):
        parse_keys(text, "bus.toml")


def test_a_missing_mapping_is_a_failure_in_words(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be read"):
        open_keypad(tmp_path / "event0", tmp_path / "none.toml")


def test_keys_are_read_from_a_device_as_they_come(tmp_path: Path) -> None:
    device = tmp_path / "event0"
    os.mkfifo(device)
    keypad = InputDevice(device, KEYS)
    assert keypad.pressed() == ()
    with device.open("wb", buffering=0) as kernel:
        assert keypad.pressed() == ()
        kernel.write(event(78, 1) + event(71, 1))
        assert keypad.pressed() == (NEXT, SEVEN)
        assert keypad.pressed() == ()
    keypad.close()


def test_a_keypad_that_is_plugged_in_later_works_then(tmp_path: Path) -> None:
    device = tmp_path / "event0"
    keypad = open_keypad(device, EXAMPLE)
    assert keypad.pressed() == ()
    device.write_bytes(event(78, 1))
    assert keypad.pressed() == (NEXT,)


def test_a_keypad_that_is_pulled_out_says_nothing_and_comes_back(tmp_path: Path) -> None:
    device = tmp_path / "event0"
    device.mkdir()  # opens, and fails when read, as a device that has gone does
    keypad = InputDevice(device, KEYS)
    assert keypad.pressed() == ()
    device.rmdir()
    device.write_bytes(event(78, 1))
    assert keypad.pressed() == (NEXT,)
    keypad.close()


class Time:
    """A clock that a test moves."""

    ms = 0

    def now_ms(self) -> int:
        return self.ms


def test_a_scripted_keypad_presses_at_its_moments() -> None:
    time = Time()
    keypad = ScriptedKeypad(time.now_ms, [(200, SEVEN), (100, NEXT)])
    assert keypad.pressed() == ()
    time.ms = 150
    assert keypad.pressed() == (NEXT,)
    keypad.press(NEXT)
    time.ms = 300
    assert keypad.pressed() == (NEXT, SEVEN)
    assert keypad.pressed() == ()


def test_a_terminal_is_a_keypad_and_is_given_back_as_it_was() -> None:
    person, terminal = pty.openpty()
    others: list[str] = []
    try:
        with TerminalKeypad({"n": NEXT, "7": SEVEN}, others.append, terminal) as keypad:
            assert keypad.pressed() == ()
            os.write(person, b"n7xn")
            assert keypad.pressed() == (NEXT, SEVEN, NEXT)
            assert others == ["x"]
    finally:
        os.close(person)
        os.close(terminal)

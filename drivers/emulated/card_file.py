"""A twin card as a small text file (TOML) that a person can read, copy and change.

A file is replaced, never changed in place (written beside, flushed, renamed), so that a twin killed in the middle of a write leaves the old
card or the new one. Saved text is the same for the same card, so a copy can be told from a change.
"""

import os
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import cast

from drivers.emulated.lite_s_card import STORED, Delay, Faults, LiteSCard, Memory, Tear, Torn, Traits

_KIND = "FeliCa Lite-S"
_SWITCHES = ("lost", "answer_lost", "lifted", "warn", "bad_crc", "forever")
_NAMES = {
    0x0E: "REG: REGA, REGB (u32, low byte first), REGC",
    0x82: "ID",
    0x83: "D_ID: IDm and PMm",
    0x84: "SER_C",
    0x85: "SYS_C",
    0x86: "CKV: card key version (u16, low byte first)",
    0x87: "CK: card key",
    0x88: "MC: memory configuration",
    0xA0: "CRC_CHECK",
}


class BadCardFile(ValueError):
    """A card file that is none: which file, which field, what to do, in one sentence."""


def load(path: Path) -> LiteSCard:
    """The card in this file. Raises ``BadCardFile``, and ``OSError`` when the file cannot be read."""
    return parse(path.read_text("utf-8", errors="replace"), str(path))


def open_card(path: Path) -> LiteSCard:
    """The card in this file, written back after each change of its memory. Raises as ``load``."""
    card = load(path)
    card.on_write = partial(save, path)
    return card


def save(path: Path, card: LiteSCard) -> None:
    """Write the card's file: whole or not at all. Raises ``OSError``."""
    write(path, text(card))


def write(path: Path, content: str) -> None:
    """Replace the file's content atomically and durably. Raises ``OSError``."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def text(card: LiteSCard) -> str:
    """The card as its file's text."""
    memory, traits = card.memory, card.traits
    lines = [
        "# An emulated card. It lies on the reader while this file lies in a reader's tray.",
        f'card = "{_KIND}"',
        f"write_counter = 0x{memory.wcnt:06X}",
        "",
        "[traits]",
        f'delay = "{traits.delay.value}" # of what PMm declares: min, half, max',
        f"strict = {str(traits.strict).lower()} # refuses a MAC where none is needed",
        f"equal_reg = {str(traits.equal_reg).lower()} # accepts equal values in REG",
        f'reg_refusal = "{traits.reg_refusal[0]:02X}{traits.reg_refusal[1]:02X}"',
        f"rc_ends_ext_auth = {str(traits.rc_ends_ext_auth).lower()}",
    ]
    if traits.worn_at is not None:
        lines.append(f"worn_at = 0x{traits.worn_at:06X} # from this write counter on a write answers FF 71")
    lines += ["", "[blocks] # number = 16 bytes, as they pass the air"]
    for number in STORED:
        name = _NAMES.get(number, f"S_PAD{number}")
        lines.append(f'{number:02X} = "{memory.blocks[number].hex(" ", 4).upper()}" # {name}')
    for faults in card.planned:
        lines += ["", "[[faults]] # with the next command that is no poll", *_fault_lines(faults)]
    return "\n".join(lines) + "\n"


def _fault_lines(faults: Faults) -> list[str]:
    lines = [f"{key} = true" for key in _SWITCHES if getattr(faults, key)]
    if faults.removed_at is not None:
        lines.append(f"removed_at = {faults.removed_at}")
    lines += [f'{key} = "{data.hex().upper()}"' for key, data in (("idm", faults.idm), ("script", faults.script)) if data is not None]
    if faults.tear is not None:
        lines.append(f'torn = "{faults.tear.block.value}" # old, new or garbage')
        lines += [f"counted = {str(faults.tear.counted).lower()}", f"seed = {faults.tear.seed}"]
    return lines


def parse(content: str, name: str) -> LiteSCard:
    """The card in a file's text; ``name`` is what a message calls it. Raises ``BadCardFile``."""
    try:
        table = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise BadCardFile(f"{name}: this is no TOML file ({error}); correct it, or take a fresh card file") from error
    if table.get("card") != _KIND:
        raise BadCardFile(f"{name}: the field 'card' must be \"{_KIND}\"; this is no card file, or one for another program")
    fields = _Fields(name, "", table)
    try:
        card = LiteSCard(Memory(_blocks(fields), fields.integer("write_counter", 0)), _traits(fields.table("traits")))
        card.plan([_faults(one) for one in fields.tables("faults")])
    except BadCardFile:
        raise
    except ValueError as error:
        raise BadCardFile(f"{name}: {error}; correct it, or take a fresh card file") from error
    return card


class _Fields:
    """A table of the file that says itself what is wrong with it."""

    def __init__(self, name: str, place: str, values: Mapping[str, object]) -> None:
        self._name = name
        self._place = place
        self.values = values

    def wrong(self, key: str, want: str) -> BadCardFile:
        return BadCardFile(f"{self._name}: the field '{self._place}{key}' must be {want}")

    def table(self, key: str) -> "_Fields":
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "a table")
        return _Fields(self._name, f"{self._place}{key}.", cast("dict[str, object]", value))

    def tables(self, key: str) -> list["_Fields"]:
        values = self.values.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in cast("list[object]", values)):
            raise self.wrong(key, f"written as [[{key}]]")
        each = cast("list[dict[str, object]]", values)
        return [_Fields(self._name, f"{self._place}{key}[{at}].", value) for at, value in enumerate(each, 1)]

    def integer(self, key: str, default: int | None) -> int:
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, "a whole number")
        return value

    def switch(self, key: str, *, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def hexadecimal(self, key: str, size: int, default: str | None = None) -> bytes:
        value = self.values.get(key, default)
        want = f"{size} bytes in hexadecimal"
        if not isinstance(value, str):
            raise self.wrong(key, want)
        try:
            data = bytes.fromhex(value)
        except ValueError as error:
            raise self.wrong(key, want) from error
        if len(data) != size:
            raise self.wrong(key, f"{want}, not {len(data)}")
        return data


def _blocks(fields: _Fields) -> dict[int, bytes]:
    given = fields.table("blocks")
    known = {f"{number:02X}": number for number in STORED}
    for key in given.values:
        if key.upper() not in known:
            raise given.wrong(key, "left out: a Lite-S card stores the blocks 00-0E, 82-88 and A0")
    spelled = {key.upper(): key for key in given.values}
    return {number: given.hexadecimal(spelled.get(key, key), 16) for key, number in known.items()}


def _traits(fields: _Fields) -> Traits:
    plain = Traits()
    wish = fields.values.get("delay", plain.delay.value)
    delay = next((delay for delay in Delay if delay.value == wish), None)
    if delay is None:
        raise fields.wrong("delay", '"min", "half" or "max"')
    refusal = fields.hexadecimal("reg_refusal", 2, bytes(plain.reg_refusal).hex())
    return Traits(
        delay=delay,
        strict=fields.switch("strict", default=plain.strict),
        equal_reg=fields.switch("equal_reg", default=plain.equal_reg),
        reg_refusal=(refusal[0], refusal[1]),
        rc_ends_ext_auth=fields.switch("rc_ends_ext_auth", default=plain.rc_ends_ext_auth),
        worn_at=fields.integer("worn_at", None) if "worn_at" in fields.values else None,
    )


def _faults(fields: _Fields) -> Faults:
    torn = fields.values.get("torn")
    block = next((block for block in Torn if block.value == torn), None)
    if torn is not None and block is None:
        raise fields.wrong("torn", '"old", "new" or "garbage"')
    tear = None if block is None else Tear(block, fields.switch("counted", default=False), fields.integer("seed", 0))
    script = fields.values.get("script")
    size = len(script.replace(" ", "")) // 2 if isinstance(script, str) else 0
    return Faults(
        lost=fields.switch("lost", default=False),
        answer_lost=fields.switch("answer_lost", default=False),
        tear=tear,
        removed_at=fields.integer("removed_at", None) if "removed_at" in fields.values else None,
        lifted=fields.switch("lifted", default=False),
        warn=fields.switch("warn", default=False),
        bad_crc=fields.switch("bad_crc", default=False),
        forever=fields.switch("forever", default=False),
        idm=fields.hexadecimal("idm", 8) if "idm" in fields.values else None,
        script=None if script is None else fields.hexadecimal("script", size),
    )

"""``kazashi demo --interactive``: the same bus, played by whoever sits at the keyboard.

Digits lay a card on the reader and lift it, letters are the driver's keys. While the driver is keying a number (a ticket, a stop, a fare),
digits are the driver's, until Enter or c.
"""

import sys
import time
from collections import deque

from drivers.devices.keypad import DriverKey
from firmware import demo, demo_stage
from firmware.demo_bus import MORNING, RIDERS, Words
from firmware.demo_stage import BusDied, Stage
from firmware.failure import Failure
from validator.messages import Message

ON_THE_TABLE = ("ume", "kiyoshi", "fumi", "sada", "masao", "yoshi", "visitor", "kazu", "forger")
TRIPS = ("M1-2", "M2-3", "M1-3", "M2-4")
DRIVER = {
    "t": DriverKey.TRIP,
    "n": DriverKey.NEXT_STOP,
    "p": DriverKey.PREVIOUS_STOP,
    "w": DriverKey.PAIR,
    "h": DriverKey.CHILD,
    "k": DriverKey.TICKET,
    "g": DriverKey.STOP,
    "f": DriverKey.FARE,
    "c": DriverKey.CLEAR,
    "r": DriverKey.REPEAT,
    "s": DriverKey.SHIFT,
    "\n": DriverKey.ENTER,
}
_NUMBERS = frozenset({DriverKey.TICKET, DriverKey.STOP, DriverKey.FARE})
_TURN_S = 0.01
_HELP = Words(
    """\
  1-9    カードを置く、取る（下の表）
  t n p  便を開く・閉じる、次の停留所、前の停留所
  w h    2人、子ども      k g f  整理券・乗った停留所・運賃（数字のあと Enter）
  c r s  取り消し、もう一度言う、勤務
  u x    リーダーを抜く・差す、機械に kill -9
  ?      この説明         q      終わる""",
    """\
  1-9    lay a card down, lift it (below)
  t n p  open or close the trip, next stop, previous stop
  w h    two people, child      k g f  ticket, boarding stop, fare (digits, then Enter)
  c r s  clear, say it again, shift
  u x    unplug or plug in the reader, kill -9 the station
  ?      this help              q      quit""",
)


def perform(wish: demo.Wish, say: demo.Say) -> int:
    """Play until q, Esc in the window, or Ctrl-C; raises ``Failure`` without a keyboard."""
    if not sys.stdin.isatty():
        raise Failure("--interactive needs a terminal to type at; run it there, or leave --interactive out")
    demo.fresh_folder(wish.folder)
    house = demo.open_house(wish, say)
    typed: deque[str] = deque()
    with (
        Stage(house, wish.seed, int(MORNING.timestamp() * 1000), quick=False, tell=say) as stage,
        demo_stage.open_keys(typed.append) as keys,
    ):
        table = Table(stage, wish.lang, say)
        table.begin()
        while table.open and not stage.gallery.closed():
            keys.pressed()
            while typed:
                table.type(typed.popleft())
            table.turn()
            time.sleep(_TURN_S)
    demo.write_sound(stage, wish.folder)
    say("")
    demo.tell_ledgers(stage.verified(), wish.lang, say)
    return 0


class Table:
    """The cards on the table, the driver's keys, and what is said. ``open``: nobody wants to quit yet."""

    def __init__(self, stage: Stage, lang: str, say: demo.Say) -> None:
        self.open = True
        self._stage = stage
        self._lang = lang
        self._say = say
        self._laid: set[str] = set()
        self._keying = False
        self._plugged = True
        self._told = 0

    def begin(self) -> None:
        """Deal the cards, start the bus, explain the keys."""
        for name in ON_THE_TABLE:
            role = RIDERS[name]
            self._stage.deal(name, 1500 if role.points is None else role.points, role.kind)
        self._stage.enter("bus-1", 1, TRIPS)
        self._help()

    def turn(self) -> None:
        """One round of the station, and what it says. A station that was killed is started again."""
        try:
            self._stage.turn()
        except BusDied:
            self._say(
                Words("  （機械は kill -9 で止まった。ひとりでに動きだす）", "  (the station was killed; it starts again by itself)").in_(
                    self._lang
                )
            )
            self._stage.restart()
        self._stage.screen.advance()
        for _, shown in self._stage.heard[self._told :]:
            if shown.message is not Message.SEEN:
                self._say("  → " + demo.spoken(shown, self._stage, self._lang))
        self._told = len(self._stage.heard)

    def type(self, character: str) -> None:
        """One key."""
        if character.isdigit() and character.isascii():
            self._digit(character)
            return
        match character:
            case "q":
                self.open = False
            case "?":
                self._help()
            case "u":
                self._plug()
            case "x":
                self._stage.kill()
            case _ if character in DRIVER:
                self._press(DRIVER[character])
            case _:
                pass

    def _digit(self, digit: str) -> None:
        if self._keying:
            self._send(DriverKey.DIGIT, int(digit))
        elif digit != "0" and int(digit) <= len(ON_THE_TABLE):
            self._move(ON_THE_TABLE[int(digit) - 1])

    def _move(self, name: str) -> None:
        who = RIDERS[name].name.in_(self._lang)
        if name in self._laid:
            self._laid.remove(name)
            self._stage.lift(name)
            self._say(Words(f"{who}: カードを取る", f"{who}: lifts the card").in_(self._lang))
        else:
            self._laid.add(name)
            self._stage.lay(name)
            self._say(Words(f"{who}: カードを置く", f"{who}: lays the card down").in_(self._lang))

    def _press(self, key: DriverKey) -> None:
        self._keying = key in _NUMBERS
        self._send(key, 0)

    def _send(self, key: DriverKey, digit: int) -> None:
        name = key.value if key is not DriverKey.DIGIT else str(digit)
        self._say(Words(f"乗務員: {name}", f"the driver: {name}").in_(self._lang))
        try:
            self._stage.turn(keys=((key.value, digit),))
        except BusDied:
            self._stage.restart()

    def _plug(self) -> None:
        self._plugged = not self._plugged
        if self._plugged:
            self._stage.reader.plug()
        else:
            self._stage.reader.unplug()

    def _help(self) -> None:
        self._say(_HELP.in_(self._lang))
        for number, name in enumerate(ON_THE_TABLE, 1):
            dealt = self._stage.cards[name]
            kind = "" if dealt.kind == "plain" else f" ({dealt.kind})"
            self._say(f"  {number}  {RIDERS[name].name.in_(self._lang)}, {dealt.points}{kind}")

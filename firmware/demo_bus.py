"""The chapter "bus": a morning on one bus line, as a script.

A day in April: out to the cape with boarding taps, back with numbered tickets, and a round on the community line. Everybody in it is
invented. Each scene says who does what and what the reader must answer; a scene that ends otherwise is a broken demo, and said so.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from drivers.devices.keypad import DriverKey
from firmware.demo_stage import BusDied, Pull, Stage
from firmware.rehearsal import ZONE
from validator.messages import Message, Shown
from validator.stage import RESTING

MORNING = datetime(2026, 4, 15, 8, 38, tzinfo=ZONE)
_LOOK_S = 1.3
_PATIENCE = 40
_M = Message
_K = DriverKey
_NO_ANSWERS = frozenset({_M.READY, _M.OUT_OF_ORDER})
"""What may come behind the answer to a key by itself: a machine that has too much to do loses its reader for a moment."""


class Words(NamedTuple):
    """One sentence in Japanese and in English."""

    ja: str
    en: str

    def in_(self, lang: str) -> str:
        """In ``lang`` ("ja" or "en")."""
        return self.ja if lang == "ja" else self.en


@dataclass(frozen=True, slots=True)
class Beat:
    """One thing that happened: when, where, who, what, and what was heard, and what had to be."""

    at: datetime
    stop: str
    who: Words
    what: Words
    heard: tuple[Shown, ...]
    expected: tuple[Message, ...]
    broken: bool = False

    @property
    def as_expected(self) -> bool:
        """Whether it was answered as the script says."""
        return not self.broken and tuple(shown.message for shown in self.heard) == self.expected


class Role(NamedTuple):
    """Somebody with a card. ``points`` None: some. ``kind``: plain, blocked, strange, forged or foreign."""

    name: Words
    points: int | None = None
    kind: str = "plain"


RIDERS = {
    "ume": Role(Words("梅さん（84歳）", "Ume, 84"), 2000),
    "kiyoshi": Role(Words("清さん（80歳）", "Kiyoshi, 80")),
    "hana": Role(Words("花さんご夫婦", "Hana and her husband")),
    "fumi": Role(Words("フミさん（82歳）", "Fumi, 82")),
    "isamu": Role(Words("勇さん（81歳）", "Isamu, 81")),
    "chiyo": Role(Words("千代さん（79歳）", "Chiyo, 79")),
    "minoru": Role(Words("実さん（76歳）", "Minoru, 76")),
    "tetsu": Role(Words("鉄さん（88歳）", "Tetsu, 88")),
    "sada": Role(Words("貞さん（85歳）", "Sada, 85"), 0),
    "masao": Role(Words("正雄さん（77歳）", "Masao, 77"), 100),
    "yoshi": Role(Words("芳さん（80歳）", "Yoshi, 80"), None, "blocked"),
    "visitor": Role(Words("旅の人", "a visitor"), None, "foreign"),
    "tomi": Role(Words("富さん（83歳）", "Tomi, 83")),
    "tomi_husband": Role(Words("富さんの夫のカード", "Tomi's husband's card")),
    "ken": Role(Words("けんくん（9歳）", "Ken, 9"), 600),
    "sue": Role(Words("末さん（78歳）", "Sue, 78")),
    "kazu": Role(Words("和さん（となり町）", "Kazu, from the next town"), None, "strange"),
    "forger": Role(Words("にせの残高のカード", "a card with a forged grant"), 2000, "forged"),
    "hisa": Role(Words("久さん（75歳）", "Hisa, 75")),
    "kane": Role(Words("兼さん（86歳）", "Kane, 86")),
    "kin": Role(Words("キンさん（90歳）", "Kin, 90")),
    "masa": Role(Words("政さん（74歳）", "Masa, 74")),
    "nobu": Role(Words("信さん（73歳）", "Nobu, 73")),
    "shige": Role(Words("茂さん（79歳）", "Shige, 79")),
    "tane": Role(Words("種さん（87歳）", "Tane, 87")),
    "mitsu": Role(Words("光さん（72歳）", "Mitsu, 72")),
    "yone": Role(Words("米さん（91歳、耳が遠い）", "Yone, 91, hard of hearing")),
    "setsu": Role(Words("節さんと孫", "Setsu and her grandson")),
    "ei": Role(Words("栄さん（81歳）", "Ei, 81")),
    "matsu": Role(Words("松さん（89歳）", "Matsu, 89")),
}

_GETS_ON = Words("乗るときにかざす", "touches while getting on")
_PAYS = Words("降りるときにかざす", "touches while getting off")
_AGAIN = Words("もう一度かざす", "touches again")
_DRIVER = Words("乗務員", "the driver")
_BUS = Words("バス", "the bus")


class Draw:
    """Numbers that follow from a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def between(self, least: int, most: int) -> int:
        """The next one, both ends included."""
        self._count += 1
        digest = hashlib.sha256(f"kazashi demo chapter {self._seed} {self._count}".encode()).digest()
        return least + int.from_bytes(digest[:8], "big") % (most - least + 1)


@dataclass(slots=True)
class Chapter:
    """Plays the script on a stage. ``report`` gets each beat as it happens."""

    stage: Stage
    report: Callable[[Beat], None]
    beats: list[Beat] = field(default_factory=list[Beat])
    _draw: "Draw" = field(init=False)
    _calls: tuple[tuple[str, int], ...] = ()
    _at: int = 0

    def __post_init__(self) -> None:
        stage = self.stage
        self._draw = Draw(stage.seed)
        for key, role in RIDERS.items():
            stage.deal(key, self._draw.between(90, 199) * 10 if role.points is None else role.points, role.kind)

    # ── a morning ──

    def play(self) -> None:
        """From first to last."""
        self._out()
        self._back()
        self._round()

    def _out(self) -> None:
        self._go_on_duty("bus-1", 1, ("M1-2", "M2-3"))
        self._touch("tetsu", Words("便が開く前にかざす", "touches before the driver has opened the trip"), _M.NO_TRIP)
        self._open("M1-2")
        self._at_the_station()
        self._drive(1)
        self._touch("sue", _GETS_ON, _M.BOARDED)
        self._touch("kazu", Words("となり町のカードをかざす", "touches with the next town's card"), _M.WRONG_CARD)
        self._touch(
            "forger", Words("鍵を盗んだ者が作った残高を見せる", "shows a grant made by whoever stole the card keys"), _M.DAMAGED_CARD
        )
        self._drive(2)
        self._touch("fumi", Words("読んでいるうちに手を引く", "pulls away while the purse is read"), _M.HOLD_AGAIN, pull=Pull.AT_READ)
        self._touch("fumi", _AGAIN, _M.PAID)
        self._touch("hisa", _GETS_ON, _M.BOARDED)
        self._drive(3)
        self._touch("ume", Words("はじめてカードで払う", "pays with a card for the first time in her life"), _M.PAID)
        self._touch("kiyoshi", _PAYS, _M.PAID)
        self._touch("kiyoshi", Words("心配になって、もう一度かざす", "is not sure, and touches again"), _M.ALREADY_PAID)
        self._touch("kin", _GETS_ON, _M.BOARDED)
        self._drive(4)
        self._hands_that_pull_away()
        self._drive(5)
        self._two_on_one_card()
        self._reader_unplugged()
        self._killed()
        self._drive(6)
        self._no_price()
        self._drive(7)
        self._press(Words("「子ども」を押す", "presses Child"), _K.CHILD, expected=(_M.ARMED_CHILD,))
        self._touch("ken", Words("子ども料金で払う", "pays the child fare"), _M.PAID)
        self._touch("tetsu", _PAYS, _M.PAID)
        self._press(
            Words(
                "便を閉じる。久さんの一件は「不明」として記録される", "closes the trip; what became of Hisa's debit is entered as UNKNOWN"
            ),
            _K.TRIP,
        )

    def _at_the_station(self) -> None:
        self._touch("ume", Words("生まれてはじめてのカード。乗るときにかざす", "her first card ever: touches while getting on"), _M.BOARDED)
        self._touch("kiyoshi", _GETS_ON, _M.BOARDED)
        self._touch("hana", Words("ふたりで1枚。乗るときにかざす", "two on one card: touch while getting on"), _M.BOARDED)
        self._touch("fumi", Words("すぐに手を引く", "pulls away at once"), _M.HOLD_AGAIN, pull=Pull.AT_CHALLENGE)
        self._touch("fumi", _AGAIN, _M.BOARDED)
        for key in ("isamu", "chiyo", "minoru", "tetsu", "sada", "masao"):
            self._touch(key, _GETS_ON, _M.BOARDED)
        self._touch("yoshi", Words("止められているカードをかざす", "touches with a card that was reported lost"), _M.BLOCKED_CARD)
        self._touch("visitor", Words("鉄道のカードをかざす", "touches with a railway's card"), _M.FOREIGN_CARD)
        self._touch(
            "tomi", Words("財布のまま、2枚をかざす", "touches with a wallet that holds two cards"), _M.ONE_CARD, beside=("tomi_husband",)
        )
        self._touch("tomi", Words("1枚だけ出してかざす", "takes one card out and touches"), _M.BOARDED)
        for key in ("ken", "masa", "nobu"):
            self._touch(key, _GETS_ON, _M.BOARDED)

    def _hands_that_pull_away(self) -> None:
        self._touch(
            "isamu",
            Words("引き去りの直前に手を引く", "pulls away just before the card is written"),
            _M.HOLD_AGAIN_UNSURE,
            pull=Pull.BEFORE_WRITE,
        )
        self._press(Words("取り消そうとする", "tries to cancel"), _K.CLEAR, expected=(_M.RETOUCH_FIRST,))
        self._touch("isamu", _AGAIN, _M.PAID)
        self._touch(
            "chiyo",
            Words("引き去りの直後に手を引く", "pulls away just after the card was written"),
            _M.HOLD_AGAIN_UNSURE,
            pull=Pull.AFTER_WRITE,
        )
        self._touch("chiyo", _AGAIN, _M.RECOVERED)
        self._touch(
            "minoru",
            Words("確かめているうちに手を引く", "pulls away while the debit is read back"),
            _M.HOLD_AGAIN_UNSURE,
            pull=Pull.AT_CHECK,
        )
        self._touch("minoru", _AGAIN, _M.RECOVERED)
        self._touch(
            "hisa",
            Words("引き去りの直後に手を引き、そのまま急いで降りる", "pulls away just after the card was written, and hurries off"),
            _M.HOLD_AGAIN_UNSURE,
            pull=Pull.AFTER_WRITE,
        )

    def _two_on_one_card(self) -> None:
        self._press(Words("「2人」を押す", "presses Two people"), _K.PAIR, expected=(_M.ARMED_PAIR,))
        self._touch("hana", Words("1枚でふたり分を払う", "pay for both with one card"), _M.PAID_PAIR)
        self._touch("sada", Words("残高のないカードをかざす", "touches with an empty purse"), _M.CASH)
        self._touch("masao", Words("足りないカードをかざす", "touches with 100 points left"), _M.PAID_AND_CASH)
        self._press(
            Words("兼さんは町役場前から、とキーで入れる", "keys that Kane got on at the town hall"),
            _K.STOP,
            3,
            _K.ENTER,
            expected=(_M.ARMED_STOP,),
        )
        self._touch(
            "kane",
            Words("乗るときにかざし忘れた。降りるときにかざす", "forgot to touch when getting on; touches while getting off"),
            _M.PAID,
        )

    def _reader_unplugged(self) -> None:
        self.stage.reader.unplug()
        self._wait(Words("リーダーのケーブルが抜ける", "the reader's cable comes out"), _M.OUT_OF_ORDER)
        self.stage.reader.plug()
        self._wait(Words("ケーブルを差すと、リーダーはひとりでに戻る", "the cable is back, and so is the reader, by itself"), _M.READY)
        self._touch("tomi", Words("待っていて、かざす", "has waited, and touches"), _M.PAID)

    def _killed(self) -> None:
        self._touch(
            "masa", Words("かざす。カードが書かれた瞬間に kill -9", "touches; kill -9 in the instant the card is written"), kill=True
        )
        self._touch("masa", Words("動きだした機械に、もう一度かざす", "touches again, as the machine is back"), _M.RECOVERED)
        self._touch(
            "nobu",
            Words("かざす。カードが書かれる直前に kill -9", "touches; kill -9 just before the card is written"),
            pull=Pull.BEFORE_WRITE,
            kill=True,
        )
        self._touch("nobu", Words("動きだした機械に、もう一度かざす", "touches again, as the machine is back"), _M.PAID)

    def _no_price(self) -> None:
        self._touch("sue", Words("運賃表にない区間", "a pair of stops the fare table does not have"), _M.ASK_FARE)
        self._press(Words("320円と入れる", "keys 320 yen"), _K.FARE, 320, _K.ENTER, expected=(_M.ARMED_FARE,))
        self._touch("sue", _AGAIN, _M.PAID)
        self._touch(
            "kin",
            Words("運賃表に二つの値がある区間。安いほうで払う", "two prices in the table: pays the lower one, and it is marked"),
            _M.PAID,
        )

    def _back(self) -> None:
        self._open("M2-3")
        self._drive(1)
        self._ticket(1)
        self._touch("shige", _PAYS, _M.PAID)
        self._drive(4)
        self._touch(
            "tane",
            Words("整理券をなくした。始発からの運賃で払う", "has lost the ticket: pays from the first stop, and it is marked"),
            _M.PAID,
        )
        self._press(
            Words("整理券を2番と打ちまちがえ、取り消す", "keys ticket 2 by mistake, and clears it"), _K.TICKET, 2, _K.ENTER, _K.CLEAR
        )
        self._ticket(3)
        self._touch("mitsu", _PAYS, _M.PAID)
        self._drive(5)
        self._ticket(2)
        self._touch("yone", _PAYS, _M.PAID)
        self._press(Words("聞こえなかったので、もう一度言わせる", "lets the reader say it once more"), _K.REPEAT, expected=(_M.PAID,))
        self._drive(7)
        self._ticket(4)
        self._touch(
            "hisa",
            Words("行きの「不明」がここで解ける。帰りの分だけ払う", "her UNKNOWN of the way out is resolved; she pays the way back"),
            _M.PAID,
        )
        self._ticket(4)
        self._touch("ume", Words("病院の帰り", "on her way back from the hospital"), _M.PAID)
        self._ticket(4)
        self._touch("kiyoshi", Words("病院の帰り。別の便なので払う", "on his way back: another trip, so he pays"), _M.PAID)
        self._touch("kiyoshi", Words("やはり、もう一度かざす", "touches again, of course"), _M.ALREADY_PAID)
        self._press(
            Words("「2人」「子ども」、整理券3番", "presses Two people, Child, and keys ticket 3"), _K.PAIR, _K.CHILD, _K.TICKET, 3, _K.ENTER
        )
        self._touch("setsu", Words("大人と子どもの分を払う", "pays for an adult and a child"), _M.PAID_PAIR)
        self._press(Words("便を閉じる", "closes the trip"), _K.TRIP)
        self._press(Words("勤務を終える", "ends the shift"), _K.SHIFT)

    def _round(self) -> None:
        self._go_on_duty("bus-2", 2, ("G1-3",))
        self._open("G1-3")
        self._drive(3)
        for key in ("ei", "chiyo", "matsu"):
            self._touch(key, Words("コミュニティバスは無料", "rides the community bus free"), _M.FREE)
        self._touch("matsu", Words("心配になって、もう一度かざす", "is not sure, and touches again"), _M.FREE)
        self._press(Words("「2人」を押す", "presses Two people"), _K.PAIR, expected=(_M.ARMED_PAIR,))
        self._touch("hana", Words("本人は無料、夫の100円は現金", "she rides free; her husband pays 100 yen in coins"), _M.COMPANION_CASH)
        self._press(Words("勤務を終える", "ends the shift"), _K.SHIFT)

    # ── verbs ──

    def _go_on_duty(self, name: str, terminal: int, trips: Sequence[str]) -> None:
        self.stage.enter(name, terminal, trips)

    def _open(self, trip: str) -> None:
        """The driver opens a trip, two minutes before it leaves."""
        self._calls = self.stage.calls(trip)
        self._at = 0
        self._until(self._calls[0][1] - 120)
        self._press(Words(f"便 {trip} を開く", f"opens trip {trip}"), _K.TRIP)

    def _drive(self, call: int) -> None:
        """On to the trip's stop number ``call`` (from 0)."""
        while self._at < call:
            self._at += 1
            self._until(self._calls[self._at][1] - 30)
            before = self.stage.where
            self.stage.act("next stop", (), before, 1, self.stage.press(_K.NEXT_STOP))
            self.stage.pause(4000, _LOOK_S / 2)

    def _touch(
        self,
        who: str,
        what: Words,
        *expected: Message,
        pull: Pull | None = None,
        kill: bool = False,
        beside: Sequence[str] = (),
    ) -> None:
        stage = self.stage
        names, where, armed, before = (who, *beside), stage.where, stage.armed, len(stage.heard)
        died = False
        try:
            stage.touch(names, pull, kill=kill)
        except BusDied:
            died = True
        heard = tuple(shown for _, shown in stage.heard[before:] if shown.message not in RESTING | {_M.SEEN})
        stage.act(f"{RIDERS[who].name.en}: {what.en}", names, where, armed, heard, excused=died)
        self._beat(RIDERS[who].name, what, heard, expected, broken=died != kill)
        if died:
            stage.restart()
            self._beat(
                _BUS,
                Words("機械はひとりでに動きだし、記録から続ける", "the machine starts again by itself and goes on from its ledger"),
                (),
                (),
            )
        stage.pause(self._draw.between(9_000, 15_000), _LOOK_S)

    def _press(self, what: Words, *keys: DriverKey | int, expected: tuple[Message, ...] = ()) -> None:
        stage = self.stage
        where, armed = stage.where, stage.armed
        heard = stage.press(*keys)
        stage.act(f"the driver {what.en}", (), where, armed, heard)
        answers = [shown for shown in heard if shown.message not in _NO_ANSWERS]
        self._beat(_DRIVER, what, tuple(answers[-1:]) if expected else (), expected)
        stage.pause(2500, _LOOK_S / 2)

    def _ticket(self, number: int) -> None:
        self._press(Words(f"整理券 {number}番と入れる", f"keys ticket {number}"), _K.TICKET, number, _K.ENTER, expected=(_M.ARMED_TICKET,))

    def _wait(self, what: Words, expected: Message) -> None:
        """Nobody does anything until the reader shows ``expected`` by itself."""
        before = len(self.stage.heard)
        heard: tuple[Shown, ...] = ()
        for _ in range(_PATIENCE):
            self.stage.pause(500)
            heard = tuple(shown for _, shown in self.stage.heard[before:] if shown.message is expected)
            if heard:
                break
        self._beat(_BUS, what, heard[:1], (expected,))
        self.stage.pause(5000, _LOOK_S)

    def _beat(self, who: Words, what: Words, heard: tuple[Shown, ...], expected: tuple[Message, ...], *, broken: bool = False) -> None:
        beat = Beat(self._now(), self._stop_name(), who, what, heard, expected, broken)
        self.beats.append(beat)
        self.report(beat)

    def _now(self) -> datetime:
        return MORNING + timedelta(milliseconds=self.stage.now_ms())

    def _until(self, second_of_day: int) -> None:
        day = MORNING.replace(hour=0, minute=0, second=0)
        left = day + timedelta(seconds=second_of_day) - self._now()
        if left > timedelta(0):
            self.stage.pause(int(left.total_seconds() * 1000))

    def _stop_name(self) -> str:
        return self._calls[self._at][0] if self._calls else ""

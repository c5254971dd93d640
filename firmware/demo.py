"""``kazashi demo``: plays its chapters, and then says what happened, what was heard, and whether the laws held.

The verdicts are those of ``firmware.laws``, the same functions that the proofs call. What a chapter cannot show is said to be not shown.
Everything it makes lies in one folder, which is replaced; nothing else is touched, and nothing is left running.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from drivers.devices.display import width_em
from firmware import demo_city, demo_stage
from firmware.demo_bus import MORNING, RIDERS, Beat, Chapter, Words
from firmware.demo_city import Arrived, CityChapter, Scene
from firmware.demo_stage import House, Stage, Verified
from firmware.failure import Failure
from firmware.laws import (
    Verdict,
    charged_once,
    dated_rules,
    durable_before_ok,
    never_silent,
    no_secrets,
    nothing_lost,
    offline_is_normal,
)
from ledger.entry import Entry, Kind
from validator.feedback import Feedback
from validator.messages import Message, Shown

FOLDER = Path("demo-out")
CHAPTERS = ("bus", "city")
_MARK = ".made-by-kazashi-demo"
_LONGEST_SILENCE_S = 0.8
_LAWS = {
    1: Words("一度だけ引く。引いたかどうかは必ず分かる", "Charged once: a ride is paid once or not at all, and which of the two is known"),
    2: Words("記録してから「できました」と言う", "Durable before OK: no green light before the entry is on the disk"),
    3: Words("かざしても押しても、必ず光と音と言葉で答える", "Never silent: every touch and every key ends in light, sound and word"),
    4: Words("失わず、二度数えない", "Nothing is lost, nothing counts twice"),
    5: Words("決まりは日付のあるデータ", "Rules are dated data: every entry names the versions that decided it"),
    6: Words("誰の秘密も機械に残さない", "Nobody's secret stays on a terminal: no card number and no key in ledger, log or message"),
    7: Words("画面に出ることは声でも言う", "Seen is spoken: whatever the screen shows, the voice says"),
    8: Words("つながらないのが普通", "Offline is normal: thirty days without a network"),
    9: Words(
        "盗まれた鍵で残高は増えず、うそのカードで機械は止まらない", "A stolen key raises no grant, and a lying card crashes no terminal"
    ),
}
_UNSEARCHED = (".png", ".keys")
"""Pictures, and the files whose purpose is to keep keys."""

_REFUSALS = (Message.BLOCKED_CARD, Message.FOREIGN_CARD, Message.WRONG_CARD, Message.DAMAGED_CARD)
_NOT_SHOWN = Words("この章では見せない", "not shown in this chapter")
_AS_FAR = {8: Words("（ここでは一日）", " (here: a day)")}
"""What a chapter shows less of than the law says."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for.

    ``lang``: "ja" or "en". ``fast``: nothing is waited for, not even in a window. ``chapters``: which are told; what comes before is played
    without being told.
    """

    lang: str
    seed: int
    fast: bool = False
    folder: Path = FOLDER
    chapters: tuple[str, ...] = CHAPTERS


Say = Callable[[str], None]


def language(environment: Mapping[str, str]) -> str:
    """The language that the environment (LC_ALL, LC_MESSAGES, LANG) asks for: "ja" or "en"."""
    chosen = next((environment[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(name)), "")
    return "ja" if chosen.startswith("ja") else "en"


def fresh_folder(folder: Path) -> None:
    """Make the demo's folder, empty; raises ``Failure`` when what is there is not a demo's."""
    try:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise Failure(f"{folder}: is not a folder of a demo; move it away")
        if folder.is_dir():
            if any(folder.iterdir()) and not (folder / _MARK).exists():
                raise Failure(f"{folder}: holds files that no demo made; move them away")
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise Failure(f"{folder}: cannot be replaced ({error.strerror}); start the demo where you may write") from error


def perform(wish: Wish, say: Say) -> int:
    """Play the chapter; the exit status: 0 when every law that was shown held and every scene went as written, else 1."""
    began_s = time.monotonic()
    fresh_folder(wish.folder)
    house = open_house(wish, say)
    beats: list[Beat] = []
    scenes: list[Scene] = []
    told = "bus" in wish.chapters
    arrived = None
    with Stage(
        house, wish.seed, int(MORNING.timestamp() * 1000), quick=wish.fast or not told, tell=lambda sentence: say(f"  ({sentence})")
    ) as stage:

        def report(beat: Beat) -> None:
            beats.append(beat)
            if told or not beat.as_expected:
                say(_line(beat, stage, wish.lang))

        def report_scene(scene: Scene) -> None:
            scenes.append(scene)
            say(_scene_line(scene, wish.lang))

        if not told:
            say(Words("（みさき線の朝は、語らずに先に演じる）", "(the morning is played first, without being told)").in_(wish.lang))
        Chapter(stage, report).play()
        if "city" in wish.chapters and city_can_be_shown(wish, say):
            arrived = CityChapter(stage, report_scene).play()
    return Ending(wish, say, stage, beats, scenes, arrived).tell(time.monotonic() - began_s)


def city_can_be_shown(wish: Wish, say: Say) -> bool:
    """Whether this machine has what a city needs; what it lacks, or what comes now, is said."""
    missing = ", ".join(demo_city.missing())
    if missing:
        say(
            Words(
                f"\n市の章は見せない: この機械には {missing} がない（pip install 'kazashi[backoffice]'）。",
                f"\nThe chapter of the city is not shown: this machine lacks {missing} (pip install 'kazashi[backoffice]').",
            ).in_(wish.lang)
        )
        return False
    say(Words("\nその夕方、記録は市へ", "\nThe same evening: the ledgers go to the city").in_(wish.lang))
    return True


def open_house(wish: Wish, say: Say) -> House:
    """Open a window and a loudspeaker where there are any, and say what was found."""
    window = demo_stage.open_window()
    aloud = demo_stage.open_loudspeaker() if window is not None and not wish.fast else None
    house = House(wish.folder, window, aloud)
    ja = wish.lang == "ja"
    say(
        "Kazashi demo: みさき線の朝（実在しない町、実在しない人）"
        if ja
        else "Kazashi demo: a morning on one bus line (town and people are invented)"
    )
    heads = ("乱数の種", "ことば", "音", "画面", "リーダー") if ja else ("seed", "language", "sound", "screen", "reader")
    facts = (
        str(wish.seed),
        "日本語（LANG か --lang で選ぶ）" if ja else "English (LANG, --lang); the bus speaks Japanese",
        f"{Words('スピーカーと ', 'on, and ').in_(wish.lang) if aloud else ''}{wish.folder / 'morning.wav'}",
        f"{Words('窓（Esc で飛ばす）と ', 'window (Esc skips), and ').in_(wish.lang) if window else ''}{wish.folder / 'pictures'}/*.png",
        f"PN532 twin, pn532:{house.link}@921600, "
        + ("実時間。客と客のあいだは飛ばす" if ja else "in real time; what lies between two riders is skipped"),
    )
    for head, fact in zip(heads, facts, strict=True):
        say(f"  {_padded(head, 10)}{fact}")
    say("")
    return house


def spoken(shown: Shown, stage: Stage, lang: str) -> str:
    """What was heard, in the reader's language: the Japanese words themselves, or the English of the screen."""
    feedback = stage.wordbook.phrase(shown)
    return f"「{feedback.transcript}」" if lang == "ja" else f'"{feedback.english}"'


def _line(beat: Beat, stage: Stage, lang: str) -> str:
    heard = " ".join(spoken(shown, stage, lang) for shown in beat.heard)
    who = f"{beat.who.in_(lang)}: {beat.what.in_(lang)}"
    wanted = ", ".join(message.value for message in beat.expected)
    wrong = "" if beat.as_expected else f"  ← this is not what the script says ({wanted})"
    return f"{beat.at:%H:%M}  {_padded(beat.stop, 13)}{who}" + (f"\n{' ' * 20}→ {heard}" if heard else "") + wrong


def _scene_line(scene: Scene, lang: str) -> str:
    wrong = "" if scene.went else f"  ← {Words('台本と違う', 'this is not what the script says').in_(lang)}"
    day = "" if scene.at.date() == MORNING.date() else f"{scene.at.month}/{scene.at.day} "
    head = f"{day}{scene.at:%H:%M}  {_padded(scene.place.in_(lang), 13)}{scene.who.in_(lang)}: {scene.what.in_(lang)}"
    return f"{head}\n{' ' * 20}→ {scene.came.in_(lang)}{wrong}"


def _padded(text: str, columns: int) -> str:
    return text + " " * max(1, columns - round(2 * width_em(text)))


@dataclass(frozen=True, slots=True)
class Ending:
    """What is told when the morning is over."""

    wish: Wish
    say: Say
    stage: Stage
    beats: Sequence[Beat]
    scenes: Sequence[Scene] = ()
    arrived: Arrived | None = None

    def tell(self, took_s: float) -> int:
        """The story, what was heard, the ledgers, the purses, where to look, the laws; the exit status."""
        ledgers = self.stage.verified()
        entries = [entry for ledger in ledgers for entry in ledger.book.entries]
        self._write_files()
        if "bus" in self.wish.chapters:
            self._story(entries)
            self._heard()
        self._ledgers(ledgers)
        if self.arrived is not None:
            self._city(self.arrived)
        self._purses(entries)
        self._places(ledgers)
        held = self._laws(ledgers)
        strays = sum(not beat.as_expected for beat in self.beats) + sum(not scene.went for scene in self.scenes)
        if strays:
            self.say(self._words(f"{strays} つの場面が台本と違った", f"{strays} scenes went otherwise than the script says."))
        self.say(self._words(f"\n{took_s:.0f} 秒", f"\n{took_s:.0f} seconds."))
        return 0 if held and not strays else 1

    def _words(self, ja: str, en: str) -> str:
        return Words(ja, en).in_(self.wish.lang)

    def _title(self, ja: str, en: str) -> None:
        self.say("\n" + self._words(ja, en))

    # ── the story ──

    def _story(self, entries: Sequence[Entry]) -> None:
        self._title("この朝のこと", "The morning's story")
        paid = [entry for entry in entries if entry.counts_as_paid]
        points, cash = sum(entry.fare.points for entry in paid), sum(entry.fare.cash for entry in paid)
        people = len({beat.who for beat in self.beats if any(beat.who == role.name for role in RIDERS.values())})
        touches = sum(bool(act.riders) for act in self.stage.acts)
        free = sum(entry.kind is Kind.FREE for entry in entries)
        shown = Counter(shown.message for beat in self.beats for shown in beat.heard)
        early = shown[Message.HOLD_AGAIN] + shown[Message.HOLD_AGAIN_UNSURE]
        unknown = [entry for entry in entries if entry.kind is Kind.UNKNOWN]
        resolved = [entry for entry in entries if entry.kind is Kind.RESOLVED]
        refused = sum(shown[message] for message in _REFUSALS)
        kills = sum(act.excused for act in self.stage.acts)
        for ja, en in (
            (
                f"{people} 枚のカードが {touches} 回かざされた。支払い {len(paid)} 件、無料 {free} 件。",
                f"{people} riders touched {touches} times: {len(paid)} rides were paid, {free} were free.",
            ),
            (
                f"いただいたのは {points:,} ポイントと、現金 {cash:,} 円。",
                f"What was paid: {points:,} points, and {cash:,} yen in cash.",
            ),
            (
                f"断ったカードは {refused} 枚: 止められたもの、よその町と鉄道のもの、にせの残高のもの。",
                f"{refused} cards were refused: one stopped, one of another town, one of a railway, one with a forged grant.",
            ),
            (
                f"手が早く離れたのは {early} 回。そのたびに「もう一度かざしてください」と答えた。",
                f"A hand came away too early {early} times. Each time the reader asked for one more touch.",
            ),
            (
                f"引き去りの途中で {kills} 回 kill -9。機械は記録から続け、カードに聞いて、引いたかどうかを確かめた。",
                f"kill -9 fell {kills} times in the middle of a debit; the station went on from its ledger and asked the card.",
            ),
            (
                f"便の終わりまで分からなかった引き去りは {len(unknown)} 件。次の便で {len(resolved)} 件が分かった。",
                f"{len(unknown)} debit was still unknown when its trip ended; {len(resolved)} was resolved on the next trip.",
            ),
            (
                f"心配で二度かざした人には {shown[Message.ALREADY_PAID]} 回「お支払いずみです」と答え、何も引かなかった。",
                f"Riders who touched again to be sure were told {shown[Message.ALREADY_PAID]} times that they had paid; nothing was taken.",
            ),
            (
                f"リーダーのケーブルが抜け、ひとりでに戻った。運賃のない区間は乗務員が金額を入れた（{shown[Message.ASK_FARE]} 回）。",
                f"The reader's cable came out; it came back by itself. {shown[Message.ASK_FARE]} ride had no fare: the driver named it.",
            ),
        ):
            self.say("  " + self._words(ja, en))

    def _heard(self) -> None:
        self._title("聞こえたこと（回数と、最後の例）", "What was heard (how often, and the last example)")
        phrases = [self.stage.wordbook.phrase(shown) for _, shown in self.stage.heard]
        by_words = {phrase.transcript: phrase for phrase in phrases}
        heard: dict[Message, list[Feedback]] = {}
        for one in self.stage.speaker.heard:
            if one.transcript in by_words:
                phrase = by_words[one.transcript]
                heard.setdefault(phrase.message, []).append(phrase)
        for again in heard.values():
            english = f"  ({again[-1].english})" if self.wish.lang == "en" else ""
            self.say(f"  {len(again):3}×  {again[-1].transcript}{english}")

    # ── the books ──

    def _ledgers(self, ledgers: Sequence[Verified]) -> None:
        self._title("記録を確かめる", "The ledgers, verified")
        tell_ledgers(ledgers, self.wish.lang, self.say)

    def _purses(self, entries: Sequence[Entry]) -> None:
        city = self.arrived.books.spent if self.arrived else None
        if city is None:
            self._title("カードと記録", "Purse against ledger")
            heads = self._words("はじめ カードは 記録では 引き去り", "began purse ledger debits").split()
        else:
            self._title("カード = 記録 = 市の帳簿", "Purse = ledger = the city's books")
            heads = self._words("はじめ カードは 記録では 帳簿では 引き去り", "began purse ledger books debits").split()
        self.say(f"  {' ' * 30}" + "".join(_left(head, 10) for head in heads))
        for name, dealt in self.stage.cards.items():
            if dealt.kind == "foreign":
                continue
            rider = self.stage.rider(name)
            paid = [entry for entry in entries if entry.counts_as_paid and entry.medium and entry.medium.rider == rider]
            booked = sum(entry.fare.points for entry in paid)
            spent = self.stage.spent(name)
            debits = sum(bool(entry.fare.points) for entry in paid)
            taken = (spent, booked) if city is None else (spent, booked, city.get(rider, 0))
            columns = (dealt.points, *(dealt.points - points for points in taken), debits)
            who = _padded(RIDERS[name].name.in_(self.wish.lang), 30)
            mark = "✓" if len(set(taken)) == 1 else self._words("× 合わない", "× differs")
            self.say(f"  {who}" + "".join(f"{column:>10,}" for column in columns) + f"  {mark}")

    def _city(self, arrived: Arrived) -> None:
        self._title("市の帳簿", "The city's books")
        entries, times = len(arrived.books.entries), arrived.sent / max(1, len(arrived.books.entries))
        self.say(
            self._words(
                f"  記録 {entries} 件。{arrived.batches} 束で、のべ {arrived.sent} 件（{times:.1f} 倍）届き、"
                f"帳簿には一度ずつ。よけた記録、記録への警報は {len(arrived.books.aside)} 件。",
                f"  {entries} entries. {arrived.batches} batches brought {arrived.sent} of them ({times:.1f} times each), "
                f"and each is booked once. {len(arrived.books.aside)} of them were set aside or raised an alarm.",
            )
        )
        self._title("4月の請求（kazashi backoffice bill の出力）", "The bill for April, as `kazashi backoffice bill` prints it")
        for line in arrived.bill.in_(self.wish.lang).splitlines():
            self.say(f"  {line}".rstrip())

    # ── the laws ──

    def _laws(self, ledgers: Sequence[Verified]) -> bool:
        self._title("約束", "The laws")
        verdicts = {verdict.number: verdict for verdict in self.verdicts(ledgers)}
        for number, text in _LAWS.items():
            verdict = verdicts.get(number)
            if verdict is None:
                state = self._words("－－", "----")
                self.say(f"  {number}  {_padded(state, 8)}{text.in_(self.wish.lang)} ({_NOT_SHOWN.in_(self.wish.lang)})")
                continue
            state = self._words("守った", "held") if verdict.held else self._words("破った", "BROKEN")
            less = _AS_FAR.get(number, Words("", "")).in_(self.wish.lang)
            self.say(f"  {number}  {_padded(state, 8)}{text.in_(self.wish.lang)}{less}" + ("" if verdict.held else f"\n     {verdict.why}"))
        return all(verdict.held for verdict in verdicts.values())

    def verdicts(self, ledgers: Sequence[Verified]) -> list[Verdict]:
        """The laws that this chapter can show."""
        stage, books = self.stage, [ledger.book for ledger in ledgers]
        return [
            charged_once(books, stage.stories(), stage.acts, stage.window_min),
            durable_before_ok(books, stage.said(books)),
            never_silent(stage.acts),
            *self._arrivals(ledgers),
            dated_rules(books, stage.rules()),
            no_secrets(self._texts(), stage.secrets()),
            self._verdict(7, [f"'{shown.message.value}' is shown and not said" for _, shown in stage.heard if not self._is_spoken(shown)]),
            self._verdict(
                9, [f"{name}: the card was debited" for name, dealt in stage.cards.items() if self._was_believed(name, dealt.kind)]
            ),
        ]

    def _arrivals(self, ledgers: Sequence[Verified]) -> list[Verdict]:
        """Law 4, and law 8 where the city was part of it."""
        broken = self._verdict(4, [f"{ledger.path}: {fault}" for ledger in ledgers for fault in (*ledger.faults, *_gaps(ledger))])
        if self.arrived is None or not broken.held:
            return [broken]
        books = [ledger.book for ledger in ledgers]
        return [nothing_lost(books, self.arrived.books), offline_is_normal(books, self.arrived.books)]

    def _verdict(self, number: int, faults: Sequence[str]) -> Verdict:
        return Verdict(number, _LAWS[number].en, not faults, faults[0] if faults else "")

    def _is_spoken(self, shown: Shown) -> bool:
        feedback = self.stage.wordbook.phrase(shown)
        return bool(feedback.transcript) or not any(feedback.large)

    def _was_believed(self, name: str, kind: str) -> bool:
        return kind in {"forged", "strange"} and self.stage.spent(name) > 0

    def _texts(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.wish.folder.rglob("*") if path.is_file() and path.suffix not in _UNSEARCHED}

    # ── files ──

    def _write_files(self) -> None:
        folder = self.wish.folder
        write_sound(self.stage, folder)
        heard = [
            f"{MORNING + timedelta(milliseconds=one.from_ms):%H:%M:%S}  {one.transcript or '♪'}{' …' if one.cut else ''}"
            for one in self.stage.speaker.heard
        ]
        (folder / "transcript.txt").write_text("\n".join(heard) + "\n", encoding="utf-8")
        story = [_line(beat, self.stage, self.wish.lang) for beat in self.beats]
        story += [_scene_line(scene, self.wish.lang) for scene in self.scenes]
        (folder / "story.txt").write_text("\n".join(story) + "\n", encoding="utf-8")

    def _places(self, ledgers: Sequence[Verified]) -> None:
        folder = self.wish.folder
        self._title("見るところ", "Where to look")
        for path, what in (
            (folder / "story.txt", Words("この朝のすべての場面", "every scene of the morning")),
            (
                folder / "transcript.txt",
                Words("聞こえた言葉。… は途中で次の声に替わったところ", "the words as they were heard; … was cut short by the next"),
            ),
            (folder / "morning.wav", Words("その音", "their sound")),
            (folder / "pictures", Words(f"画面 {self.stage.gallery.count} 枚", f"{self.stage.gallery.count} screens")),
            *((ledger.path, Words("kazashi ledger show で読む", "read it with: kazashi ledger show")) for ledger in ledgers),
            *(self.arrived.files if self.arrived else ()),
        ):
            self.say(f"  {_padded(str(path), 38)}{what.in_(self.wish.lang)}")
        if self.arrived is not None:
            self.say(f"  {self.arrived.way_in.in_(self.wish.lang)}")


def tell_ledgers(ledgers: Sequence[Verified], lang: str, say: Say) -> None:
    """One line a ledger: what is wrong with it, or that it holds."""
    for ledger in ledgers:
        count, intents = len(ledger.book.entries), len(ledger.book.intents)
        good = Words(f"{count} 件、鎖は切れていない", f"{count} entries, the chain holds").in_(lang)
        still = Words(f"、途中の引き去り {intents}", f", {intents} debits open").in_(lang)
        say(f"  {ledger.path}: {'; '.join(ledger.faults) or good}{still}")


def write_sound(stage: Stage, folder: Path) -> None:
    """All that sounded, as one file; long silences are cut."""
    stage.speaker.write_wav(folder / "morning.wav", _LONGEST_SILENCE_S)


def _gaps(ledger: Verified) -> list[str]:
    wrong = (place for place, entry in enumerate(ledger.book.entries, 1) if entry.seq != place)
    return [f"entry {place} is missing or stands twice" for place in wrong][:1]


def _left(text: str, columns: int) -> str:
    return " " * max(1, columns - round(2 * width_em(text))) + text

"""The chapter "city": what the two buses wrote in the morning goes up to the city, over a network that is not to be trusted.

Played in the evening, in the depot, after the chapter "bus". The stations are the real ones and take the city's receipts; the couriers are
the real ones and wait by their own table (the clock is put forward meanwhile); the wire is the real one, into a network that is cut, lies
and vanishes (``firmware.demo_network``); the town hall is the real application on the real server and a database file
(``firmware.demo_town_hall``). Then the month ends and is billed.

What the city has booked is read at the end with plain SQL from the database file, by nobody who wrote it.

The back office's libraries are an extra: without them the chapter is not shown (``missing``), and everything is imported inside.
"""

import csv
import http.client
import json
import logging
import re
import secrets
import shutil
import sqlite3
from argparse import ArgumentParser
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from drivers.signing import Ed25519Key
from drivers.vault_file import VaultFile, demo_keys, write_keys
from fares import gtfs
from fares.files import open_feed
from fares.table import FareTable, Price, pack
from firmware import VERSION, compose, packages
from firmware.demo_bus import MORNING, Draw, Words
from firmware.demo_hall import TownHall
from firmware.demo_network import HOST, Accident, Fate, Network
from firmware.demo_stage import Stage
from firmware.demo_station import device_secret, judge_of, letterbox, packages_of
from firmware.failure import Failure
from firmware.keyring import OneKey
from firmware.laws import CityBooks, Number
from firmware.packages import Judge, Refused, Staged
from firmware.rehearsal import FISCAL_YEAR, TOWN
from ledger import package, stick
from ledger.batch import MAX_SEALED, unpack
from ledger.beside import BesideDatabase
from ledger.carrier import BATCHES, Answer, Carrier, Equipment, NoAnswer, meaning
from ledger.courier import Event, Pace, State
from ledger.package import Package, PackageKind
from ledger.receipts import LetterboxBeside
from ledger.seal import Content, Signer, VaultSigner, parse, seal
from ledger.uplink import HttpUplink

if TYPE_CHECKING:
    from backoffice.settings import Settings

NEEDS = ("alembic", "fastapi", "jinja2", "psycopg", "reportlab", "sqlalchemy", "uvicorn")
MONTH = "2026-04"
_GIVEN = datetime(2026, 4, 1, 10, 0, tzinfo=MORNING.tzinfo)
_EVENING = MORNING.replace(hour=18, minute=40)
_CLOSED = datetime(2026, 5, 15, 6, 0, tzinfo=MORNING.tzinfo)
_NEW_FARES = date(2026, 5, 1)
_STICK, _FIRST_CUT, _SECOND_CUT = 17, 12, 9
"""Entries in one batch: on the stick, from the courier, and from the courier after a restart."""
_CODE_MS = 3 * 86_400_000
_WAITING = frozenset({State.RESTING, State.BACKING_OFF, State.SHUT_OUT})
_MOST_TURNS = 500
_LETTERS_MS = 6_000
_PATIENCE_S = 20.0
_SETTINGS = """\
# The demo's city. `kazashi backoffice --config {file} serve` opens it; its keys follow from nothing worth keeping.
format = 1
[database]
url = "sqlite:///city.db"
[keys]
file = "city.keys"
[console]
passphrases = "clerks.txt"
vault = "office.keys"
[[operator]]
id = "minato"
name = "みなと町営バス"
"""
_DEPOT, _HALL = Words("車庫", "depot"), Words("町役場", "town hall")
_COURIER = Words("{bus} の運び役", "{bus}'s courier")
_ANSWERS = {
    Event.RECEIPT: Words("受領書", "a receipt"),
    Event.NO_ANSWER: Words("答えなし", "no answer"),
    Event.NOT_THE_CITY: Words("市の署名がない答え。信じない", "an answer that the city has not signed; not believed"),
}


def missing() -> list[str]:
    """The libraries of the back office that are not here; then this chapter cannot be played."""
    return [name for name in NEEDS if find_spec(name) is None]


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that happened on the way to the city: when, where, who, what, what came of it, and whether it had to come so."""

    at: datetime
    place: Words
    who: Words
    what: Words
    came: Words
    went: bool


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the city has when it is over. ``sent``: how often an entry came in at the city's door, all told; ``batches``: in how many.

    ``bill``: as the command prints it. ``way_in``: the command that opens this city.
    """

    books: CityBooks
    sent: int
    batches: int
    bill: Words
    files: tuple[tuple[Path, Words], ...]
    way_in: Words


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One message and what came back. ``span``: the entries in it; None for a heartbeat."""

    span: tuple[int, int] | None
    event: Event


@dataclass(slots=True)
class _Wire:
    """A ``ledger.carrier.Uplink`` that remembers what went over it."""

    uplink: HttpUplink
    exchanges: list[_Exchange] = field(default_factory=list[_Exchange])

    def post(self, door: str, body: bytes) -> Answer:
        """Send it on."""
        span = _span(body) if door == BATCHES else None
        try:
            answer = self.uplink.post(door, body)
        except NoAnswer:
            self.exchanges.append(_Exchange(span, Event.NO_ANSWER))
            raise
        self.exchanges.append(_Exchange(span, meaning(answer)))
        return answer


def _span(sealed: bytes) -> tuple[int, int]:
    batch = unpack(parse(sealed, Content.BATCH, MAX_SEALED).payload)
    return batch.first_seq, batch.last_seq


def _range(first: int, last: int) -> Words:
    return Words(f"記録{first}", f"entry {first}") if first == last else Words(f"記録{first}～{last}", f"entries {first} to {last}")


def _told(exchanges: Sequence[_Exchange]) -> Words:
    """What happened in one contact, in words; batches that went alike are told together."""
    ja, en = list[str](), list[str]()
    for at, one in enumerate(exchanges):
        answer = _ANSWERS.get(one.event, Words(one.event.value, one.event.value))
        if one.span is None:
            if at == 0 or one.event is not Event.RECEIPT:
                ja.append(f"あいさつに{answer.ja}")
                en.append(f"the greeting: {answer.en}")
            continue
        ja.append(f"{_range(*one.span).ja}に{answer.ja}")
        en.append(f"{_range(*one.span).en}: {answer.en}")
    return Words("、".join(ja), "; ".join(en))


@dataclass(slots=True)
class CityChapter:
    """Plays the chapter on the stage that a morning left. ``report`` gets each scene as it happens."""

    stage: Stage
    report: Callable[[Scene], None]
    _draw: Draw = field(init=False)
    _folder: Path = field(init=False)
    _settings: "Settings" = field(init=False)
    _city: Signer = field(init=False)
    _hall: TownHall = field(init=False)
    _network: Network = field(init=False)
    _passphrase: str = field(init=False)
    _codes: dict[str, str] = field(default_factory=dict[str, str])
    _sticks: list[bytes] = field(default_factory=list[bytes])
    _by_hand: list[bytes] = field(default_factory=list[bytes])
    _scenes: int = 0

    def __post_init__(self) -> None:
        self._draw = Draw(self.stage.seed + 1_000_000)
        self._folder = self.stage.house.folder / "city"
        self._passphrase = f"minato-demo-{self._draw.between(10**7, 10**8 - 1)}"

    def play(self) -> Arrived:
        """From the first word to the bill. Raises ``Failure``."""
        from backoffice.city import BooksAway

        try:
            return self._play()
        except BooksAway as error:
            raise Failure(
                f"{self._folder}: the city's books do not answer ({error.__cause__ or error}); no other demo may use this folder"
            ) from error

    def _play(self) -> Arrived:
        stage = self.stage
        stage.leave()
        stage.clock.skip_ms(max(0, int((_EVENING - self._now()).total_seconds() * 1000)))
        self._found()
        with ExitStack() as undo:
            undo.enter_context(_journal(stage.house.folder / "couriers.log"))
            self._hall = undo.enter_context(
                TownHall(self._folder / "city.toml", stage.origin_ns, stage.utc_ms, lambda: stage.clock.skipped_ns)
            )
            self._network = undo.enter_context(Network(self._hall.port))
            self._enrol()
            self._first_bus()
            self._second_bus()
            self._again()
            self._stranger()
            self._fares()
            self._pages(("vehicles", "/console/"), ("troubles", "/console/troubles"), card=True)
            stage.leave()
            told = self._month()
            self._pages(("month", f"/console/months?month={MONTH}"))
        bodies = self._delivered()
        books = city_books(self._folder / "city.db")
        return Arrived(books, sum(last - first + 1 for first, last in map(_span, bodies)), len(bodies), told, self._files(), self._way_in())

    # ── the town hall ──

    def _found(self) -> None:
        """The city's key, its clerk, its books with what the desk gave; two vehicles and their codes; next month's fares."""
        from backoffice import compose as office
        from backoffice import keys, queries
        from backoffice.grants import GrantKind, RiderGrant

        folder, stage = self._folder, self.stage
        folder.mkdir()
        config = folder / "city.toml"
        config.write_text(_SETTINGS.format(file=config), encoding="utf-8")
        _secret(folder / "clerks.txt", f"sato {self._passphrase}\n")
        write_keys(folder / "office.keys", demo_keys(stage.seed).for_terminal(secrets.token_bytes(32)))
        compose.make_city_key(folder / "city.keys")
        self._city = compose.open_city_key(folder / "city.keys")
        self._settings = office.settings_of(config)
        stage.city = self._city.public
        now_ms = stage.clock.now().utc_ms
        operator = stage.town.tariff.operator.id
        with office.open_books(self._settings) as books:
            for bus in stage.buses:
                code = self._codes[bus.name] = keys.new_code(secrets.token_bytes)
                books.add_device(bus.terminal, bus.name, operator, now_ms)
                books.give_code(bus.terminal, keys.code_digest(code), now_ms, now_ms + _CODE_MS)
        with office.open_city(self._settings, (self._city,), lambda: now_ms) as city:
            city.offer(self._package())
        with office.open_store(self._settings) as store:
            for name, dealt in stage.cards.items():
                if dealt.kind in {"plain", "blocked"} and dealt.points:
                    given = RiderGrant(stage.rider(name), FISCAL_YEAR, 1, dealt.points, GrantKind.YEARLY, int(_GIVEN.timestamp() * 1000))
                    queries.keep_grant(store, given)

    def _enrol(self) -> None:
        from backoffice import keys

        statuses: list[int] = []
        for bus in self.stage.buses:
            signer, code = self._signer(bus.terminal), self._codes[bus.name]
            asked = {
                "code": code,
                "algorithm": "eddsa",
                "public_key": keys.base64url(signer.public),
                "proof": keys.base64url(signer.sign(keys.proof_message(code))),
            }
            statuses.append(self._ask("POST", "/v1/enrolments", json.dumps(asked).encode(), {"Content-Type": "application/json"})[0])
        self._scene(
            _HALL,
            Words("市の係", "a clerk"),
            Words(
                "バス2台を登録する。一度きりの番号と、機械の鍵の署名で",
                "enrols the two buses: a code that is good once, signed by each bus's key",
            ),
            Words("市は2台の鍵を知った", "the city knows both keys"),
            went=statuses == [201, 201],
        )

    # ── up ──

    def _first_bus(self) -> None:
        stage = self.stage
        stage.board("bus-1")
        shown = stage.check_antenna()
        self._scene(
            _DEPOT,
            Words("乗務員", "the driver"),
            Words("bus-1 に点検のカードをかざす。bus-2 では忘れる", "holds a card to bus-1 to test its antenna; forgets to do so on bus-2"),
            Words("市の画面で、どちらも分かる", "the clerks will see both"),
            went=bool(shown),
        )
        self._pass(1000)
        wire, post = self._wire(), letterbox(stage.bus.ledger, self._city.public, stage.clock)
        courier = self._courier(wire, post, _FIRST_CUT)
        for _ in range(3):
            self._contact(courier, wire, Words("網がない。市を呼ぶ", "there is no network; calls the city"), answers=[Event.NO_ANSWER])
        self._stick()
        self._network.come_back()
        self._contact(
            courier,
            wire,
            Words("網が戻る。束は途中で切れる", "the network is back; a batch is cut on its way"),
            Accident(),
            Accident(Fate.CUT_GOING, self._draw.between(250, 450)),
            answers=[Event.RECEIPT, Event.NO_ANSWER],
        )
        self._contact(
            courier,
            wire,
            Words("同じ束をもう一度。市は受け取り、受領書が失われる", "the same batch again: it arrives, and the receipt is lost"),
            Accident(),
            Accident(Fate.ANSWER_LOST),
            answers=[Event.RECEIPT, Event.NO_ANSWER],
        )
        self._contact(
            courier,
            wire,
            Words("喫茶店の網が、市のふりをして答える", "a cafe's network answers in the city's place"),
            Accident(Fate.STRANGER),
            answers=[Event.NOT_THE_CITY],
        )
        post.unlock()  # the power goes; the next courier knows what is on the disk
        courier = self._courier(wire, post, _SECOND_CUT)
        self._contact(
            courier,
            wire,
            Words(
                "電源を入れなおす。束を短く切り、受領書は半分で切れる",
                "is switched on again; cuts shorter batches; a receipt is cut in half",
            ),
            Accident(),
            Accident(Fate.CUT_COMING, self._draw.between(180, 240)),
            answers=[Event.RECEIPT, Event.NO_ANSWER],
        )
        self._contact(courier, wire, Words("市にない分だけを送る", "sends what the city lacks, and only that"))
        post.unlock()
        self._take_in()

    def _second_bus(self) -> None:
        stage = self.stage
        self._network.go_away()
        stage.board("bus-2")
        self._pass(1000)
        wire, post = self._wire(), letterbox(stage.bus.ledger, self._city.public, stage.clock)
        courier = self._courier(wire, post, _SECOND_CUT)
        self._contact(courier, wire, Words("網がまた消える", "the network has vanished again"), answers=[Event.NO_ANSWER])
        self._network.come_back()
        self._contact(courier, wire, Words("網が戻り、すべて送る", "it is back; sends everything"))
        post.unlock()
        self._take_in()

    def _stick(self) -> None:
        """Somebody carries a part of the ledger by hand, in other batches and in the wrong order, so the city sees holes."""
        stage = self.stage
        with compose.open_ledger_to_send(stage.bus.ledger) as ledger:
            written = list(stick.batches(ledger, OneKey(self._signer(stage.bus.terminal)), stage.clock.now().utc_ms, _STICK))
        folder = stage.house.folder / "stick"
        folder.mkdir()
        for name, sealed in written:
            (folder / name).write_bytes(sealed)
        self._sticks = [sealed for _, sealed in written]
        brought = [self._sticks[3], self._sticks[1]]
        statuses = [self._by_stick(sealed) for sealed in brought]
        spans = [_range(*_span(sealed)) for sealed in brought]
        self._scene(
            _HALL,
            Words("整備の人", "a mechanic"),
            Words(
                f"USBメモリで、束を二つだけ逆の順に運ぶ。{spans[0].ja}、{spans[1].ja}",
                f"brings two batches on a USB stick, the later one first: {spans[0].en}, {spans[1].en}",
            ),
            Words("市は受け取り、欠けている番号を受領書に書く", "the city takes them, and its receipts name what is missing"),
            went=statuses == [200, 200],
        )
        self._pages(("gaps", "/console/gaps"))

    def _take_in(self) -> None:
        """The real station takes the receipts into its ledger, one in a quiet moment."""
        stage = self.stage
        for _ in range(4 + len(list(stage.bus.ledger.parent.glob(f"{stage.bus.ledger.name}.receipts/*")))):
            self._pass(_LETTERS_MS)
        with compose.open_ledger_to_send(stage.bus.ledger) as ledger:
            known, head = ledger.acknowledged(), ledger.head()
        self._scene(
            _DEPOT,
            Words(stage.bus.name, stage.bus.name),
            Words("車載機が受領書を記録に入れる", "the station takes the receipts into its ledger"),
            Words(
                f"市は {head.seq} 件すべてを持つ。60日のあいだ、ここにも残す",
                f"the city has all {head.seq} entries; they stay here for 60 days as well",
            ),
            went=known is not None and known.head == head,
        )

    def _again(self) -> None:
        """The network delivers what it had kept: every batch twice more, shuffled, and the whole stick."""
        before = _weight(self._folder / "city.db")
        kept = [passage.body for passage in self._network.arrived if passage.path == BATCHES]
        copies = [*kept, *kept, *self._sticks]
        shuffled = [copies.pop(self._draw.between(0, len(copies) - 1)) for _ in range(len(copies))]
        statuses = {self._by_stick(sealed) for sealed in shuffled}
        self._scene(
            _HALL,
            Words("網", "the network"),
            Words(
                f"とっておいた束を、順を乱して二度ずつ届ける。USBメモリの残りも届き、あわせて {len(shuffled)} 束",
                f"delivers what it had kept, twice and shuffled; the rest of the stick comes, too: {len(shuffled)} batches",
            ),
            Words("どれにも受領書。帳簿は1行も変わらない", "each gets its receipt; the books do not change by a line"),
            went=statuses == {200} and _weight(self._folder / "city.db") == before,
        )

    def _stranger(self) -> None:
        thief = Ed25519Key(device_secret(self.stage.seed, 0))  # no vehicle has the number 0
        payload = parse(self._sticks[0], Content.BATCH, MAX_SEALED).payload
        answer = HttpUplink(f"http://{HOST}:{self._hall.port}").post(BATCHES, seal(thief, Content.BATCH, payload))
        self._scene(
            _HALL,
            Words("だれか", "somebody"),
            Words("知らない鍵で署名した束を送る", "sends a batch under a key that nobody enrolled"),
            Words(f"断る（{answer.status}、登録されていない鍵）", f"refused ({answer.status}): {answer.detail}"),
            went=answer.status == 401,
        )

    # ── down ──

    def _package(self) -> bytes:
        """Next month's fares, signed by the city: one fare is ten yen dearer."""
        feed = self._folder / "fares-2026-05"
        shutil.copytree(TOWN, feed)
        fares = feed / "fare_attributes.txt"
        fares.write_text(fares.read_text(encoding="utf-8").replace("k150,150,", "k150,160,"), encoding="utf-8")
        contents, _ = gtfs.compile_feed(open_feed(feed))
        found = Package(PackageKind.FARE_TABLE, 2, _NEW_FARES, self.stage.clock.now().utc_ms, pack(contents))
        sealed = seal(self._city, Content.PACKAGE, package.encode(found))
        (self._folder / "fare-table-2.package").write_bytes(sealed)
        return sealed

    def _fares(self) -> None:
        stage = self.stage
        place, judge = packages_of(stage.bus.ledger), self._judge()
        (offer,) = json.loads(self._ask("GET", "/v1/packages", port=self._network.port)[1])
        size = int(offer["size"])
        self._network.expect(Accident(Fate.CUT_COMING, size // 2))
        half = self._fetch(offer["digest"])
        verdict = packages.stage(place, half, judge)
        old = judge.table()
        self._scene(
            _DEPOT,
            Words("bus-2", "bus-2"),
            Words(
                f"5月からの運賃表を取りにいく。{size:,} バイトのうち {len(half):,} バイトで切れる",
                f"fetches the fare table of May; it is cut after {len(half):,} of {size:,} bytes",
            ),
            Words(
                f"断り、警報を書きとめる。今の運賃表のまま（{_fare(old)} 円）",
                f"refused, and an alarm is noted; the old table stays ({_fare(old)} yen)",
            ),
            went=isinstance(verdict, Refused) and len(packages.alarms(place)) == 1,
        )
        verdict = packages.stage(place, self._fetch(offer["digest"]), judge)
        self._scene(
            _DEPOT,
            Words("bus-2", "bus-2"),
            Words("もう一度取りにいく。全部届く", "fetches it again; it comes whole"),
            Words("署名と値上げの幅を確かめ、5月1日まで待つ", "signature and size of the change are good; it waits for 1 May"),
            went=isinstance(verdict, Staged),
        )
        self._warned(place)

    def _warned(self, place: Path) -> None:
        """The station takes the alarm into its ledger; it goes up like any other entry, and a clerk sees it."""
        stage = self.stage
        for _ in range(2):
            self._pass(_LETTERS_MS)
        self._scene(
            _DEPOT,
            Words("bus-2", "bus-2"),
            Words("車載機が警報を記録に入れる", "the station takes the alarm into its ledger"),
            Words("記録のひとつとして、市へ送られる", "it goes up like any other entry"),
            went=not packages.alarms(place) and not packages.enter(place, self._judge()),
        )
        wire, post = self._wire(), letterbox(stage.bus.ledger, self._city.public, stage.clock)
        self._contact(self._courier(wire, post, _SECOND_CUT), wire, Words("新しい記録を送る", "sends what is new"))
        post.unlock()
        self._take_in()
        warned = _warnings(self._folder / "city.db")
        self._scene(
            _HALL,
            Words("市の係", "a clerk"),
            Words("「要確認」を見る", "looks at what is to be checked"),
            Words("bus-2 が届いた資料を採用していない、とある", f"{' '.join(warned) or 'nothing'} (bus-2)"),
            went=len(warned) == 1,
        )

    def _fetch(self, digest: str) -> bytes:
        """A package over the network, or as much of it as came."""
        try:
            return self._ask("GET", f"/v1/packages/{digest}", port=self._network.port)[1]
        except http.client.IncompleteRead as error:
            return error.partial

    def _judge(self) -> Judge:
        town = self.stage.town
        return judge_of(town.tariff, self._city.public, town.keys.rider_version, self.stage.clock)

    # ── the month ──

    def _month(self) -> Words:
        """Nobody rides any more; the month closes, is billed, and May's fares come into force."""
        from backoffice import billing
        from backoffice import compose as office

        stage = self.stage
        stage.clock.skip_ms(int((_CLOSED - self._now()).total_seconds() * 1000))
        self._hall.tell_time()
        judge = self._judge()
        new = packages.enter(packages_of(stage.bus.ledger), judge).get(PackageKind.FARE_TABLE)
        table = FareTable.unpack(new.file, str(new)) if new else None
        self._scene(
            _DEPOT,
            Words("bus-2", "bus-2"),
            Words("5月1日を過ぎた。次に動きだすとき", "1 May is over; at its next start"),
            Words(f"新しい運賃表になる（{_fare(table)} 円）", f"the new table comes into force ({_fare(table)} yen)"),
            went=table is not None and _fare(table) != _fare(judge.table()),
        )
        operator, parser = stage.town.tariff.operator.id, ArgumentParser()
        said = {language: StringIO() for language in ("ja", "en")}
        billing.bill_arguments(parser)
        paper = [self._folder / f"bill-{operator}-{MONTH}.{form}" for form in ("csv", "pdf")]
        wanted = ["--operator", operator, "--month", MONTH, "--from-raw", "--csv", str(paper[0]), "--pdf", str(paper[1])]
        try:
            for language, told in said.items():
                with office.open_store(self._settings) as store, redirect_stdout(told):
                    billing.run_bill(parser.parse_args([*wanted, "--language", language]), store, self._settings, stage.clock.now().utc_ms)
        except billing.CannotBill as error:
            said["en"].write(str(error))
        rows = list(csv.reader(StringIO(paper[0].read_text(encoding="utf-8-sig")))) if paper[0].exists() else []
        spent = sum(city_books(self._folder / "city.db").spent.values())
        points = int(rows[-1][7]) if rows else -1
        yen = f"{int(rows[-1][8]):,}" if rows else "?"
        self._scene(
            _HALL,
            Words("市の係", "a clerk"),
            Words(
                "4月を締め、請求書をつくる。もとの束からも計算しなおす",
                "closes April and makes the bill; works it out again from the raw batches",
            ),
            Words(f"{points:,} ポイント。請求額 {yen} 円、どちらも同じ", f"{points:,} points; {yen} yen to be paid, both ways the same"),
            went=points == spent and "the same." in said["en"].getvalue(),
        )
        lines = {language: [line for line in told.getvalue().splitlines() if ": written" not in line] for language, told in said.items()}
        return Words("\n".join(lines["ja"]), "\n".join(lines["en"]))

    # ── the clerks' pages ──

    def _pages(self, *wanted: tuple[str, str], card: bool = False) -> None:
        """Save pages as files, in both languages, as a browser gets them."""
        for lang in ("ja", "en"):
            clerk = _Clerk(self._hall.port, lang)
            clerk.enter(self._passphrase)
            for name, path in wanted:
                self._save(f"{name}.{lang}.html", clerk.get(path))
            if card:
                self._save(f"card.{lang}.html", clerk.look_up(self.stage.cards["ume"].card.idm))
            (self._folder / "style.css").write_text(clerk.get("/console/style.css"), encoding="utf-8")

    def _save(self, name: str, page: str) -> None:
        """Its style lies beside it; its links lead to the city that the command opens."""
        listen = self._settings.listen
        page = page.replace('"/console/style.css"', '"style.css"')
        page = re.sub(r'(href|action)="/console/', rf'\1="http://{listen.host}:{listen.port}/console/', page)
        (self._folder / name).write_text(page, encoding="utf-8")

    def _way_in(self) -> Words:
        listen, command = self._settings.listen, f"kazashi backoffice --config {self._folder / 'city.toml'} serve"
        where = f"http://{listen.host}:{listen.port}/"
        return Words(f"{command}  → {where} 合言葉 {self._passphrase}", f"{command}  → {where} passphrase {self._passphrase}")

    def _files(self) -> tuple[tuple[Path, Words], ...]:
        folder = self._folder
        return (
            (folder / "city.db", Words("市の帳簿（SQLite）", "the city's books (SQLite)")),
            (folder / f"bill-minato-{MONTH}.pdf", Words("請求書。CSV もある", "the bill; there is a CSV, too")),
            (
                folder / "*.html",
                Words("窓口の画面: vehicles, gaps, troubles, card, month", "the clerks' pages: vehicles, gaps, troubles, card, month"),
            ),
        )

    # ── verbs ──

    def _wire(self) -> _Wire:
        return _Wire(HttpUplink(self._network.url))

    def _courier(self, wire: _Wire, post: LetterboxBeside, batch: int) -> Carrier:
        stage = self.stage
        ledger = stage.bus.ledger
        post.lock()
        equipment = Equipment(
            device=stage.bus.terminal,
            software=VERSION,
            ledgers=partial(compose.ledgers_beside, ledger),
            open=compose.open_ledger_to_send,
            uplink=wire,
            believe=post.city.receipt,
            letterbox=post,
            keyring=OneKey(self._signer(stage.bus.terminal)),
            clock=stage.clock,
            draw=lambda: self._draw.between(300, 1000) / 1000,
            free_bytes=BesideDatabase(ledger).free_bytes,
        )
        return Carrier(equipment, Pace(batch=batch))

    def _contact(self, courier: Carrier, wire: _Wire, what: Words, *accidents: Accident, answers: Sequence[Event] | None = None) -> None:
        """One contact, until the courier waits again; ``answers``: what must come back, the last being a failure; None: receipts only."""
        self._network.expect(*accidents)
        before, clock = len(wire.exchanges), self.stage.clock
        for _ in range(_MOST_TURNS):
            self._pass(max(0, -(-(courier.wakes_ns - clock.monotonic_ns()) // 1_000_000)))
            courier.turn()
            if courier.state in _WAITING and len(wire.exchanges) > before:
                break
        exchanges = wire.exchanges[before:]
        came = [one.event for one in exchanges]
        wait_s = max(0, round((courier.wakes_ns - clock.monotonic_ns()) / 1e9))
        told = _told(exchanges)
        if courier.state is State.BACKING_OFF:
            told = Words(f"{told.ja}。{wait_s} 秒待つ", f"{told.en}; waits {wait_s} s")
        who = Words(*(text.format(bus=self.stage.bus.name) for text in _COURIER))
        good = set(came) == {Event.RECEIPT} if answers is None else came == list(answers)
        self._scene(_DEPOT, who, what, told, went=good and courier.state is (State.RESTING if answers is None else State.BACKING_OFF))

    def _pass(self, duration_ms: int) -> None:
        """Time passes: on the bus, here, and at the town hall."""
        self.stage.turn(skip_ms=duration_ms)
        self._hall.tell_time()

    def _signer(self, terminal: int) -> Signer:
        vault = VaultFile(demo_keys(self.stage.seed).for_terminal(device_secret(self.stage.seed, terminal)))
        return VaultSigner(vault, vault.device_public_key(), vault.device_algorithm)

    def _by_stick(self, sealed: bytes) -> int:
        """A batch at the door, not over the network; the answer's status."""
        self._by_hand.append(sealed)
        return HttpUplink(f"http://{HOST}:{self._hall.port}").post(BATCHES, sealed).status

    def _delivered(self) -> list[bytes]:
        """Every batch that came in at the door."""
        return [*(passage.body for passage in self._network.arrived if passage.path == BATCHES), *self._by_hand]

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, port: int | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, port or self._hall.port, timeout=_PATIENCE_S)
        with closing(connection):
            connection.request(method, path, body, {"Connection": "close", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _scene(self, place: Words, who: Words, what: Words, came: Words, *, went: bool) -> None:
        self.report(Scene(self._now(), place, who, what, came, went))

    def _now(self) -> datetime:
        return MORNING + timedelta(milliseconds=self.stage.now_ms())


@dataclass(slots=True)
class _Clerk:
    """A browser without a window: cookies, forms, and nothing else."""

    port: int
    lang: str
    _cookies: dict[str, str] = field(default_factory=dict[str, str])

    def enter(self, passphrase: str) -> None:
        """Sign in."""
        self._send("/console/enter", self.get("/console/enter"), passphrase=passphrase)

    def look_up(self, idm: bytes) -> str:
        """The page of a card."""
        return self._send("/console/card", self.get("/console/card"), idm=idm.hex())

    def get(self, path: str) -> str:
        """A page."""
        return self._ask("GET", path, None, {})

    def _send(self, path: str, page: str, **fields: str) -> str:
        token = re.findall(r'name="token" value="(\w+)"', page)[-1]
        form = urlencode({"token": token, **fields}).encode()
        return self._ask("POST", path, form, {"Content-Type": "application/x-www-form-urlencoded"})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> str:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_PATIENCE_S)
        with closing(connection):
            connection.request(method, path, body, {"Accept-Language": self.lang, "Cookie": cookies, "Connection": "close", **headers})
            answer = connection.getresponse()
            for cookie in answer.headers.get_all("Set-Cookie") or []:
                name, _, value = cookie.partition(";")[0].partition("=")
                self._cookies[name] = value
            return answer.read().decode("utf-8")


@contextmanager
def _journal(file: Path) -> Generator[None]:
    """What the couriers write into their journal goes into a file meanwhile."""
    handler, journal = logging.FileHandler(file, encoding="utf-8"), logging.getLogger("ledger")
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    level, aloud = journal.level, journal.propagate
    journal.addHandler(handler)
    journal.setLevel(logging.INFO)
    journal.propagate = False
    try:
        yield
    finally:
        journal.removeHandler(handler)
        journal.setLevel(level)
        journal.propagate = aloud
        handler.close()


def city_books(database: Path) -> CityBooks:
    """What the city has booked, read from its SQLite file by plain SQL."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as books:
        entries = {Number(*row[:3]): bytes(row[3]) for row in books.execute("SELECT device, epoch, seq, digest FROM entry")}
        spent: dict[bytes, int] = {}
        for debit, credit, amount in books.execute("SELECT debit, credit, amount FROM posting WHERE kind = 1"):
            for account, points in ((debit, amount), (credit, -amount)):
                kind, _, rider = str(account).partition(":")
                if kind == "rider":
                    spent[bytes.fromhex(rider)] = spent.get(bytes.fromhex(rider), 0) + points
        asked = "SELECT sentence FROM reject UNION ALL SELECT sentence FROM alarm WHERE kind <> 'package'"  # which is about no ride
        aside = [str(row[0]) for row in books.execute(asked)]
        aside += [f"entry {seq} of device {device} is held" for device, seq in books.execute("SELECT device, seq FROM held")]
        heard = "SELECT min(at) FROM (SELECT min(created_ms) AS at FROM ledger UNION ALL SELECT min(received_ms) FROM heartbeat)"
        (heard_ms,) = books.execute(heard).fetchone()
    return CityBooks(entries, spent, tuple(aside), heard_ms or 0)


def _warnings(database: Path) -> list[str]:
    """What the city was told of packages."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as books:
        return [str(row[0]) for row in books.execute("SELECT sentence FROM alarm WHERE kind = 'package'")]


def _weight(database: Path) -> tuple[object, ...]:
    """Counts and sums that any change of the books would change."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as books:
        entries = books.execute("SELECT count(*), sum(points), sum(cash), sum(received_ms) FROM entry").fetchone()
        postings = books.execute("SELECT count(*), sum(amount), sum(at_ms) FROM posting").fetchone()
        return (*entries, *postings, *books.execute("SELECT count(*) FROM batch").fetchone())


def _fare(table: FareTable | None) -> int:
    """Yen from the station to the market street: the fare that rises in May."""
    price = table.price("M1", "eki_1", "shokudori_1") if table else None
    return price.yen if isinstance(price, Price) else 0


def _secret(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text, encoding="utf-8")

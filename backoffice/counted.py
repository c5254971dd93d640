"""What of a vehicle's counts deserves a look (pure).

A vehicle sends what it counted of its own journal (``ledger.counts``): hardly a day is without a number that is not 0. So a table says from
how many on a person should look. Some things are worth it once, whenever it was; others happen on a good day too, and are worth it when
there are so many for each day that the machine has been running, so that one bad hour does not stand here for weeks.

A part that hangs or fails is also started again; that is told only of a part that did it without either. At most ``MOST`` things are told
of a vehicle, the gravest: whoever looks sees the rest there.
"""

from dataclasses import dataclass
from datetime import datetime, tzinfo

from ledger.counts import DISK_ERRORS, ERRORS, FAILURES, JOURNAL_GAPS, OOM_KILLS, STARTS, WATCHDOGS, Counts

MOST = 3
GIVEN_UP = "failed-starts"
"""The part that says that another has given up."""
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Rule:
    """From ``least`` on the count ``name`` is told; ``daily``: for each day begun since the machine's start."""

    name: str
    least: int
    daily: bool = False


def _each(mark: str, least: int, *sources: str, daily: bool = False) -> tuple[Rule, ...]:
    return tuple(Rule(f"{source}-{mark}", least, daily) for source in sources)


RULES = (
    Rule(GIVEN_UP, 1),
    Rule(DISK_ERRORS, 1),
    *_each(FAILURES, 1, "data"),
    Rule(OOM_KILLS, 1),
    *_each(WATCHDOGS, 1, "station", "screen"),
    *_each(WATCHDOGS, 2, "attendant", "courier", "clock", "update", "failed"),
    *_each(FAILURES, 3, "station", "screen", "attendant", "pcscd", daily=True),
    *_each(FAILURES, 1, "health", "rauc", "grow"),
    *_each(FAILURES, 10, "courier", "clock", "update", daily=True),  # each tries again by itself, for ever
    *_each(FAILURES, 3, "counts", "systemd", daily=True),
    *_each(STARTS, 3, "station", "screen", "attendant", daily=True),
    *_each(STARTS, 10, "courier", "clock", "update", daily=True),
    *_each(FAILURES, 5, "other", daily=True),
    *_each(ERRORS, 10, "station", "screen", "attendant", daily=True),
    *_each(ERRORS, 50, "courier", "update", "kernel", daily=True),
    Rule(JOURNAL_GAPS, 3, daily=True),
)
"""The gravest first. Starts count without the first one, which was the machine's own."""


def worth_a_look(counts: Counts, up_s: int) -> tuple[tuple[str, int], ...]:
    """Of what was counted in ``up_s`` seconds the names and numbers that deserve it, the gravest first."""
    days, found = up_s // _DAY_S + 1, dict(counts)
    told: dict[str, int] = {}
    for rule in RULES:
        number, (source, mark) = found.get(rule.name, 0), parts(rule.name)
        if mark == STARTS:
            number = 0 if {f"{source}-{WATCHDOGS}", f"{source}-{FAILURES}"} & set(told) else number - 1
        if number >= rule.least * (days if rule.daily else 1):
            told[rule.name] = number
    return tuple(told.items())[:MOST]


def parts(name: str) -> tuple[str, str]:
    """Source and mark of a name; no source for what is about the whole machine."""
    source, _, mark = name.rpartition("-")
    return ("", name) if name in {GIVEN_UP, OOM_KILLS, DISK_ERRORS, JOURNAL_GAPS} else (source, mark)


# --- as the detail of a finding -----------------------------------------------------------------------------------------------------------


def detail(told: tuple[tuple[str, int], ...], since_ms: int, zone: tzinfo) -> str:
    """What ``read`` reads: since when, in the town's time, and each name with its number."""
    since = datetime.fromtimestamp(since_ms / 1000, zone).isoformat(timespec="minutes")
    return " ".join((since, *(f"{name}:{number}" for name, number in told)))


def read(text: str) -> tuple[datetime, tuple[tuple[str, int], ...]]:
    """Since when, and the names with their numbers."""
    since, *told = text.split()
    return datetime.fromisoformat(since), tuple((name, int(number)) for name, _, number in (each.partition(":") for each in told))


# --- in words -----------------------------------------------------------------------------------------------------------------------------

SOURCES = {
    "station": "カード処理",
    "screen": "画面",
    "attendant": "音声案内",
    "courier": "通信",
    "clock": "時計",
    "update": "更新",
    "health": "始動時の点検",
    "grow": "記録領域の拡張",
    "failed": "故障の案内",
    "counts": "異常の集計",
    "pcscd": "USB読み取り機",
    "rauc": "更新の書き込み",
    "data": "記録領域",
    "kernel": "OS",
    "systemd": "起動管理",
    "other": "その他",
}
WORDS = {
    "ja": {
        STARTS: "{source}の再起動{count}回",
        FAILURES: "{source}の異常終了{count}回",
        WATCHDOGS: "{source}の無応答{count}回",
        ERRORS: "{source}のエラー{count}件",
        GIVEN_UP: "再起動しても動かない部分{count}件",
        OOM_KILLS: "メモリ不足による終了{count}回",
        DISK_ERRORS: "記録媒体のエラー{count}件",
        JOURNAL_GAPS: "集計できなかった区間{count}か所",
    },
    "en": {
        STARTS: "{source} started again {times}",
        FAILURES: "{source} failed {times}",
        WATCHDOGS: "{source} hung {times}",
        ERRORS: "errors of {source}: {count}",
        GIVEN_UP: "a part gave up {times}",
        OOM_KILLS: "memory ran out {times}",
        DISK_ERRORS: "errors of the disk: {count}",
        JOURNAL_GAPS: "something was not counted {times}",
    },
}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def in_words(text: str, language: str) -> str:
    """A detail as a clause, without its full stop, in ``ja`` or ``en``."""
    since, found = read(text)
    told: list[str] = []
    for name, number in found:
        source, mark = parts(name)
        whose = SOURCES.get(source, source) if language == "ja" else source
        told.append(WORDS[language][mark].format(source=whose, count=number, times="once" if number == 1 else f"{number} times"))
    if language == "ja":
        return f"{since.month}月{since.day}日({'月火水木金土日'[since.weekday()]}){since:%H:%M}から、{'、'.join(told)}"
    return f"{', '.join(told)} since {_DAYS[since.weekday()]} {since.day} {_MONTHS[since.month - 1]} {since:%H:%M}"

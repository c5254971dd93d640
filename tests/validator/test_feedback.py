"""What a rider sees and hears is complete, kind to old ears and eyes, and the same in both."""

from pathlib import Path

import pytest

from drivers.devices.sound import Clip
from firmware.compose import wordbook
from firmware.words import EXAMPLE, sentences
from validator.feedback import HIGHEST_HZ, Moves, WordbookError, moves, name_clip, parse, said
from validator.messages import Message, Shown

FILE = Path(__file__).parents[2] / "validator" / "words" / "messages.toml"
TEXT = FILE.read_text(encoding="utf-8")
WORDS = wordbook()
GOOD_NEWS = {"taken", "taken_before"}


@pytest.mark.parametrize("message", Message)
def test_every_message_has_lamp_tone_words_and_picture(message: Message) -> None:
    feedback = WORDS.phrase(Shown(message, dict(EXAMPLE)))
    assert feedback.light
    assert feedback.tone
    assert any(isinstance(word, Clip) for word in feedback.words)
    assert feedback.large
    assert feedback.english


@pytest.mark.parametrize("message", Message)
def test_whatever_the_screen_shows_in_japanese_the_voice_says(message: Message) -> None:
    feedback = WORDS.phrase(Shown(message, dict(EXAMPLE)))
    for line in (*feedback.large, feedback.small):
        assert said(line) in said(feedback.transcript)


@pytest.mark.parametrize("message", Message)
def test_english_is_english(message: Message) -> None:
    assert WORDS.phrase(Shown(message, dict(EXAMPLE))).english.isascii()


def test_the_transcript_is_what_the_clips_say() -> None:
    for feedback in sentences(WORDS):
        assert "".join(word.reading for word in feedback.words if isinstance(word, Clip)) == feedback.reading


def test_no_tone_is_too_high_for_old_ears() -> None:
    assert all(max(glide.from_hz, glide.to_hz) <= HIGHEST_HZ for entry in WORDS.entries.values() for glide in entry.meaning.tone)


def test_only_what_was_taken_rises_and_only_refusals_fall() -> None:
    for entry in WORDS.entries.values():
        direction = moves(entry.meaning.tone)
        assert (direction is Moves.RISE) == (entry.meaning.name in GOOD_NEWS)
        assert (direction is Moves.FALL) == (entry.meaning.name in {"refused", "closed"})


def test_once_more_dips_and_the_driver_is_an_arch() -> None:
    assert {moves(entry.meaning.tone) for entry in WORDS.entries.values() if entry.meaning.name == "again"} == {Moves.DIP}
    assert {moves(entry.meaning.tone) for entry in WORDS.entries.values() if entry.meaning.name == "driver"} == {Moves.ARCH}


def test_a_green_light_means_points_or_ride_are_recorded_and_nothing_else() -> None:
    green = {message for message, entry in WORDS.entries.items() if entry.meaning.light.colour.value == "green"}
    assert green == {Message.PAID, Message.PAID_PAIR, Message.FREE, Message.BOARDED, Message.ALREADY_PAID, Message.RECOVERED}


def test_different_colours_differ_in_sign_and_motion_too() -> None:
    lights = {entry.meaning.light for entry in WORDS.entries.values()}
    assert len({light.shape for light in lights}) == len(lights)
    assert len({(light.colour, light.motion) for light in lights}) == len(lights)
    signals = {"green": set[str](), "amber": set[str](), "red": set[str]()}
    for light in lights:
        if light.colour.value in signals:
            signals[light.colour.value].add(light.shape.value)
    assert not signals["green"] & signals["red"]


def test_a_paid_ride_says_points_and_what_is_left() -> None:
    feedback = WORDS.phrase(Shown(Message.PAID, {"points": 100, "balance": 1900}))
    assert feedback.transcript == "100ポイント、残り1900"
    assert feedback.reading == "ヒャクポイントノコリセンキューヒャク"


def test_a_hand_that_left_too_early_hears_the_sentence_of_the_third_law() -> None:
    assert WORDS.phrase(Shown(Message.HOLD_AGAIN)).transcript == "もう一度かざしてください"


def test_an_unknown_outcome_promises_that_nothing_is_taken_twice() -> None:
    assert said(WORDS.phrase(Shown(Message.HOLD_AGAIN_UNSURE)).transcript) == "もう一度かざしてください二重にはいただきません"


def test_rest_without_a_stop_leaves_the_stop_out() -> None:
    feedback = WORDS.phrase(Shown(Message.READY))
    assert feedback.transcript == "カードをかざしてください"
    assert feedback.small == ""


def test_a_stop_is_spoken_from_its_given_reading() -> None:
    feedback = WORDS.phrase(Shown(Message.READY, {"stop": "神戸", "stop_reading": "かんべ"}))
    assert feedback.words[0] == Clip("神戸", "カンベ", say="カンベ")


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ValueError, match="message 'paid' lacks balance"):
        WORDS.phrase(Shown(Message.PAID, {"points": 100}))


def test_a_number_too_large_to_speak_is_named() -> None:
    with pytest.raises(ValueError, match="100000ポイント cannot be spoken: 0 to 99999 can"):
        WORDS.phrase(Shown(Message.PAID, {"points": 100_000, "balance": 1}))


def test_every_value_the_message_names_is_shown_and_spoken() -> None:
    values: dict[str, int | str] = {"points": 71, "balance": 3333, "riders": 3, "cash": 42, "hour": 15, "minute": 58}
    for message in (Message.PAID, Message.PAID_PAIR, Message.PAID_AND_CASH, Message.CASH, Message.ALREADY_PAID, Message.RECOVERED):
        entry = WORDS.entries[message]
        feedback = WORDS.phrase(Shown(message, values))
        for slot in entry.slots:
            assert str(values[slot]) in feedback.transcript
            assert str(values[slot]) in "".join((*feedback.large, feedback.small))


def test_a_name_may_be_given_in_either_kana() -> None:
    assert name_clip("港町", "みなとまち") == name_clip("港町", "ミナトマチ")


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) >= 1, old
    return TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("[message.free]", "[message.fre]", "message.free: is missing"),
        ("[message.free]", "[message.fre]", "message.fre: there is no such message"),
        ("tone = [[520, 520, 90]]", "tone = []", "meaning.ready.tone: is missing"),
        ("[880, 880, 45]", "[2600, 2600, 45]", "meaning.seen.tone: each step"),
        ("[587, 1175, 130], [1175, 1175, 180]", "[587, 300, 130]", "meaning.taken.tone: does not move as promised"),
        ('shape = "tick"', 'shape = "circle"', "each meaning needs its own"),
        ('green = "#4cd07d"', 'green = "green"', "palette.green: must be a colour"),
        ('large = ["お代は", "いりません"]', 'large = ["無料"]', "the screen shows '無料', which the voice does not say"),
        ('reading = ["オダイワイリマセン"]', "reading = []", "message.free.reading: must be a list"),
        ('reading = ["{}", "ノコリ", "{}"]', 'reading = ["ヒャク", "ノコリ", "{}"]', "does not belong to"),
        ('"{ticket}番。"', '"{ticket}枚。"', "'枚' cannot be counted"),
        ('meaning = "refused"', 'meaning = "bad"', "message.wrong_card.meaning: must be one of"),
        ("stay_s = 4", "stay_s = 0", "message.free.stay_s: must be a whole number above zero"),
        ('colour = "red"', 'colour = "pink"', "meaning.refused.lamp.colour: must be one of"),
        ('english = "Nothing to pay"', "", "message.free.english: must be a text"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(old: str, new: str, fault: str) -> None:
    with pytest.raises(WordbookError) as refused:
        parse(changed(old, new), "messages.toml")
    assert fault in str(refused.value)
    assert all(line.startswith("messages.toml: ") for line in str(refused.value).splitlines())


def test_all_faults_are_told_at_once() -> None:
    twice_wrong = changed("[message.free]", "[message.fre]").replace('green = "#4cd07d"', "green = 3")
    with pytest.raises(WordbookError) as refused:
        parse(twice_wrong, "messages.toml")
    assert len(str(refused.value).splitlines()) == 3


def test_a_file_that_is_no_toml_is_one_sentence() -> None:
    with pytest.raises(WordbookError, match=r"messages\.toml: .*line 1"):
        parse("= no", "messages.toml")


def test_an_empty_file_lists_everything_that_is_missing() -> None:
    with pytest.raises(WordbookError) as refused:
        parse("", "messages.toml")
    assert "palette: must be a table" in str(refused.value)
    assert f"message.{Message.CLOSING.value}: is missing" in str(refused.value)

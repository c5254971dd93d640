"""What others published about Lite-S, reproduced by the twin's own code."""

import binascii
from collections.abc import Callable, Iterator
from typing import Any

from drivers.emulated.lite_s_card import LiteSCard
from drivers.emulated.lite_s_mac import chain, open_session

h = bytes.fromhex


def test_the_session_keys_of_real_cards_are_reproduced(vectors: dict[str, Any]) -> None:
    for one in vectors["session"]:
        assert open_session(h(one["key"]), h(one["rc"])).key == h(one["session_key"]), one["name"]


def test_the_mac_a_of_a_real_cards_read_is_reproduced(vectors: dict[str, Any]) -> None:
    for one in vectors["mac_a_read"]:
        session = open_session(h(one["key"]), h(one["rc"]))
        assert session.mac_a_of_read((*one["blocks"], 0x91), h(one["data"])) == h(one["mac"]), one["name"]


def test_the_mac_a_that_a_real_card_accepted_is_reproduced(vectors: dict[str, Any]) -> None:
    for one in vectors["mac_a_write"]:
        session = open_session(h(one["key"]), h(one["rc"]))
        wcnt = int.from_bytes(h(one["wcnt"]), "little")
        assert session.mac_a_of_write(one["block"], h(one["data"]), wcnt) == h(one["mac"]), one["name"]


def test_the_published_macs_are_reproduced(vectors: dict[str, Any]) -> None:
    for one in vectors["mac_read"]:
        assert open_session(h(one["key"]), h(one["rc"])).mac(h(one["data"])) == h(one["mac"]), one["name"]
    for one in vectors["mac"]:
        key, data, start = h(one["key_des"]), h(one["data"]), h(one["iv_des"])
        assert chain(key, start, data)[-8:][::-1] == h(one["mac"])
        assert chain(key[8:] + key[:8], start, data)[-8:][::-1] == h(one["mac_flipped"])


def test_there_are_ten_public_vectors(vectors: dict[str, Any]) -> None:
    names = {one["name"] for kind in ("session", "mac_a_read", "mac_a_write", "mac_read", "mac") for one in vectors[kind]}
    assert names == {f"V{number}" for number in range(1, 11)}


def test_the_worked_tap_is_answered_byte_by_byte_and_its_replay_is_refused(
    vectors: dict[str, Any], worked: Callable[[], LiteSCard]
) -> None:
    card = worked()
    for step in vectors["tap"]["step"]:
        assert card.answer(h(step["command"])) == h(step["answer"]), step["name"]


def test_every_frame_of_the_vectors_has_the_crc_it_says(vectors: dict[str, Any]) -> None:
    def frames() -> Iterator[tuple[str, str]]:
        for one in vectors["crc"]:
            yield one["frame"], one["crc"]
        for step in vectors["tap"]["step"]:
            yield step["command"], step["command_crc"]
            yield step["answer"], step["answer_crc"]

    for frame, crc in frames():
        assert binascii.crc_hqx(h(frame), 0) == int(crc, 16)

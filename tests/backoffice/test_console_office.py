"""The clerks' pages over a city's real books: what its settings must bring, and a whole visit with nothing made up but the rides."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from backoffice import compose
from backoffice.registry import CityBooks
from backoffice.settings import Settings, read
from backoffice.store import Store
from drivers import vault_file
from fares.faults import Unusable

WORD_OF_SATO = "correct horse battery staple"
NOVEMBER_MS = 1_770_000_000_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    clerks = tmp_path / "clerks.txt"
    clerks.write_text(f"sato {WORD_OF_SATO}\n")
    clerks.chmod(0o600)
    (tmp_path / "city.keys").write_bytes(b"a secret of this city")
    vault_file.write_keys(tmp_path / "office.keys", vault_file.demo_keys(1))
    return read(b"format = 1\n[console]\n", "city.toml", tmp_path)


def test_a_city_without_a_console_in_its_settings_has_no_pages(tmp_path: Path) -> None:
    assert compose.office_of(read(b"format = 1\n", "city.toml", tmp_path)) is None


def test_two_processes_of_one_city_have_one_secret_and_another_city_another(settings: Settings, tmp_path: Path) -> None:
    first, second = compose.office_of(settings), compose.office_of(settings)
    (tmp_path / "city.keys").write_bytes(b"a secret of another city")
    third = compose.office_of(settings)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.secret == second.secret != third.secret


@pytest.mark.parametrize(
    ("file", "spoil", "told"),
    [
        ("clerks.txt", lambda path: path.chmod(0o644), "chmod 600"),
        ("clerks.txt", lambda path: path.unlink(), "cannot be read"),
        ("clerks.txt", lambda path: path.write_text("sato short"), "line 1"),
        ("clerks.txt", lambda path: path.write_bytes(b"\xff\xfe"), "UTF-8"),
        ("city.keys", lambda path: path.unlink(), "cannot be read"),
        ("office.keys", lambda path: path.unlink(), "office.keys"),
    ],
)
def test_what_the_pages_lack_is_said_in_one_sentence_before_anything_is_served(
    settings: Settings, tmp_path: Path, file: str, spoil: Callable[[Path], Any], told: str
) -> None:
    spoil(tmp_path / file)
    with pytest.raises(Unusable, match=told) as wrong:
        compose.office_of(settings)
    assert len(str(wrong.value).splitlines()) == 1
    assert "horse" not in str(wrong.value)


def test_a_clerk_sees_what_a_vehicle_sent(settings: Settings, url: str, vehicle: Callable[..., Any]) -> None:
    office = compose.office_of(settings)
    assert office is not None
    sent = vehicle(device=7, count=40)

    async def visit(city: FastAPI) -> dict[str, httpx.Response]:
        transport = httpx.ASGITransport(app=city)
        async with httpx.AsyncClient(transport=transport, base_url="http://office.example", follow_redirects=True) as browser:

            async def send(path: str, page: str, **fields: str) -> httpx.Response:
                return await browser.post(path, data={"token": re.findall(r'name="token" value="(\w+)"', page)[-1], **fields})

            door = (await browser.get("/")).text
            seen = {"vehicles": await send("/console/enter", door, passphrase=WORD_OF_SATO, to="/console/")}
            for name in ("gaps", "troubles", "card"):
                seen[name] = await browser.get(f"/console/{name}")
            seen["months"] = await browser.get("/console/months", params={"month": "2026-02"})
            seen["rider"] = await send("/console/card", seen["card"].text, idm="01" * 8)
            seen["bill"] = await browser.get("/console/bills/minato/2026-02.csv")
            seen["no bill"] = await browser.get("/console/bills/nobody/2026-02.csv")
            return seen

    with Store.open(url) as store:
        store.migrate()
        books = CityBooks(store)
        books.add_device(7, "minato-7", "minato", NOVEMBER_MS)
        store.receive(b"first", bytes(8), sent.batch(1, 20), NOVEMBER_MS)
        store.receive(b"third", bytes(8), sent.batch(31, 40), NOVEMBER_MS)
        city = FastAPI()
        city.include_router(compose.console(settings, books, store, office))
        seen = asyncio.run(visit(city))
    assert {name: page.status_code for name, page in seen.items()} == dict.fromkeys(seen, 200) | {"no bill": 404}
    assert "minato-7" in seen["vehicles"].text
    assert "21 から 30" in seen["gaps"].text
    assert "確認が必要なものはありません" in seen["troubles"].text
    assert "このカードの記録はありません" in seen["rider"].text
    assert "2026年2月" in seen["months"].text
    assert seen["bill"].content.startswith("﻿".encode())

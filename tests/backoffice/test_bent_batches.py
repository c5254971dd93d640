"""Bent messages at the city's door, by the hundred thousand under ``make prove PART=backoffice``.

Those of a stranger stop at the signature, whatever they say. Those of a terminal that went bad are signed, so each step behind it gets
messages that were right up to there: a good batch is taken apart to some depth, bent, and everything above is made good again: the columns'
steps, the totals, the chain, the frame, the signature.

The oracle shares nothing with the door but two strangers, a CBOR and a zstd library: it unfolds, adds up and chains what was taken by
itself, asks the grammar (docs/batch.cddl) about it, and keeps its own list of what came first under which number. The books must hold that
and nothing else.
"""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import zstandard
from cbor2 import CBORSimpleValue, CBORTag, dumps, loads, undefined
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from pycddl import Schema

from backoffice import keys, schema
from backoffice.api import COSE, PROBLEM, create_app
from backoffice.city import Application, City, Pace
from backoffice.registry import CityBooks
from backoffice.store import Store
from drivers.signing import Ed25519Key, P256Key, SignatureChecker
from ledger import batch as batches
from ledger import codec, notes, receipt, seal
from ledger.batch import Batch
from ledger.chain import genesis
from ledger.entry import Versions, When
from ledger.errors import LedgerError
from ledger.notes import NOT_TESTED, PARTS, WORKS, Heartbeat, Loss, LossReason
from ledger.seal import Content, Signer

MakeVehicle = Callable[..., Any]

NOW_MS = 1_780_000_000_000
COUNT = 40
CITY = Ed25519Key(bytes(range(32)))
TERMINALS: dict[int, Signer] = {1: Ed25519Key(b"\x01" * 32), 2: P256Key(b"\x02" * 32)}
STRANGER = Ed25519Key(b"\x03" * 32)
GRAMMAR = (Path(__file__).parents[2] / "docs" / "batch.cddl").read_text("utf-8")
MOST = 2**63 - 1
MOST_MEMORY_KIB = 96 * 1024  # for one message; a million simple values take 62 MiB

ODD: tuple[Any, ...] = (
    *(0, 1, -1, 23, 24, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, MOST, 2**63, 2**64 - 1, -(2**63), -(2**64), 2**64, 2**20_000),
    *(253_402_300_799_999, 253_402_300_800_000, 2_932_896, 2_932_897, 20, 21, 22, 23, 99),
    *(True, False, None, undefined, CBORSimpleValue(99), 0.0, 1.5, float("inf"), float("nan")),
    *(
        b"",
        b"\0",
        bytes(7),
        bytes(8),
        bytes(32),
        b"\xff" * 32,
        bytes(2000),
        "",
        "\0",
        "a\0b",
        "x" * 300,
        "日本",
        "\U0001f68c",
        "\u202e",
        "'); --",
    ),
    *([], [0], [[]], [[[[[]]]]], {}, {1: 2}, {"a": []}, CBORTag(2, b"\x01"), CBORTag(24, b"\x80"), CBORTag(55799, 1), CBORTag(36, "a")),
)


# --- the door -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def city(books: Store) -> City:
    """A city that knows two terminals, once with each database."""
    door = City(CityBooks(books), (CITY,), SignatureChecker(), lambda: NOW_MS, Pace())
    for device, signer in TERMINALS.items():
        code = keys.new_code(lambda n, device=device: device.to_bytes(n, "big"))
        door.books.add_device(device, f"bus-{device}", "minato", NOW_MS)
        door.books.give_code(device, keys.code_digest(code), NOW_MS, NOW_MS + 1000)
        door.enrol(Application(code, signer.algorithm, signer.public, signer.sign(keys.proof_message(code))))
    return door


@dataclass(frozen=True)
class Sent:
    """A message, the way it goes, and whether the city owes it a receipt (None: that depends)."""

    body: bytes
    owed: bool | None = None
    content: Content = Content.BATCH

    @property
    def path(self) -> str:
        return {Content.HEARTBEAT: "/v1/heartbeats", Content.LOSS: "/v1/losses"}.get(self.content, "/v1/batches")


@dataclass
class Witness:
    """What the oracle believes of what was taken: under each number the digest of what came first, and of what came later and was other."""

    first: dict[tuple[int, int, int], bytes] = field(default_factory=dict[tuple[int, int, int], bytes])
    others: set[tuple[int, int, int, bytes]] = field(default_factory=set[tuple[int, int, int, bytes]])
    said: Counter[str] = field(default_factory=Counter[str])
    touched: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])

    def hear(self, sent: Sent, answer: httpx.Response) -> None:
        """No 5xx; what is refused is told in words; what is taken is right in every respect, and the receipt is about it."""
        assert answer.status_code in {200, 400, 401, 413}, answer.text
        if answer.status_code != 200:
            assert sent.owed is not True, answer.text
            self.said[in_words(answer)] += 1
            return
        assert sent.owed is not False
        kid, payload = opened(sent.body, sent.content)
        self.said[f"taken: a {sent.content.name.lower()}"] += 1
        device, epoch, entries = believed(payload) if sent.content is Content.BATCH else noted(payload, sent.content)
        assert hashlib.sha256(TERMINALS[device].public).digest()[:8] == kid
        _, said = opened(answer.content, Content.RECEIPT, {0: CITY})
        got = receipt.decode(said)
        assert (got.device, got.epoch) == (device, epoch)
        missing = [seq for seq in entries if any(low <= seq <= high for low, high in got.holes)]
        assert not missing
        rejects = dict(got.rejects)
        self.touched.add((device, epoch))
        for seq, data in entries.items():
            place, digest = (device, epoch, seq), hashlib.sha256(data).digest()[:16]
            if self.first.setdefault(place, digest) != digest:
                self.others.add((*place, digest))
                self.said["a conflict"] += 1
                assert rejects[seq] == "conflict"
            else:
                assert rejects.get(seq) != "conflict"
                self.said[f"an entry: {rejects.get(seq, 'accepted')}"] += 1

    def agrees_with(self, books: Store) -> None:
        """In the ledgers touched since the last time, each number that was taken is there once, with what came first; no other is."""
        expected = {place: digest for place, digest in self.first.items() if place[:2] in self.touched}
        others = {other for other in self.others if other[:2] in self.touched}
        with books.reading() as connection:

            def rows(table: sa.Table, *columns: str) -> list[Any]:
                places = sa.tuple_(table.c.device, table.c.epoch).in_(list(self.touched))
                asked = sa.select(*(table.c[name] for name in ("device", "epoch", "seq", *columns))).where(places)
                return list(map(tuple, connection.execute(asked)))

            aside = rows(schema.reject, "digest", "code")
            found = [*rows(schema.entry, "digest"), *rows(schema.held, "digest"), *(row[:4] for row in aside if row[4] != "conflict")]
            alarms = {row[:3] for row in rows(schema.alarm, "kind") if row[3] == "conflict"}
        assert len(found) == len(expected)
        assert {row[:3]: row[3] for row in found} == expected
        assert {row[:4] for row in aside if row[4] == "conflict"} == others
        assert alarms == {other[:3] for other in others}
        self.touched.clear()

    def counted(self, books: Store) -> None:
        """There is nothing in the books that was not taken here."""
        tables = (schema.entry, schema.held, schema.reject)
        with books.reading() as connection:
            rows = [connection.scalar(sa.select(sa.func.count()).select_from(table)) for table in tables]
        assert sum(rows) == len(self.first) + len(self.others)


def in_words(answer: httpx.Response) -> str:
    """The sentence of a problem document (RFC 9457), without its numbers."""
    assert answer.headers["content-type"] == PROBLEM
    problem = answer.json()
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert problem["status"] == answer.status_code
    assert problem["detail"].endswith(".")
    assert len(answer.content) < 1000
    return "".join(letter for letter in problem["detail"] if not letter.isdigit())


async def knock(city: City, messages: Iterator[Sent], witness: Witness) -> None:
    transport = httpx.ASGITransport(app=create_app(city))
    async with httpx.AsyncClient(transport=transport, base_url="http://city") as client:
        for sent in messages:
            before = memory_from_now_on()
            witness.hear(sent, await client.post(sent.path, content=sent.body, headers={"content-type": COSE}))
            assert memory("VmHWM") - before < MOST_MEMORY_KIB


def memory_from_now_on() -> int:
    """KiB that this process has; its peak is forgotten."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    return memory("VmRSS")


def memory(name: str) -> int:
    """KiB of this process: VmRSS now, VmHWM at most since the peak was forgotten (proc_pid_status(5))."""
    return int(Path("/proc/self/status").read_text("ascii").partition(name)[2].split()[1])


# --- the oracle ---------------------------------------------------------------------------------------------------------------------------


@lru_cache
def grammar(rule: str) -> Schema:
    return Schema(f"start = {rule}\n{GRAMMAR}")


def opened(message: bytes, content: Content, signers: dict[int, Signer] | None = None) -> tuple[bytes, bytes]:
    """The key's name and the payload of a message that is right: COSE_Sign1 in its one form, signed by somebody we know."""
    tag = loads(message)
    grammar("message").validate_cbor(message)
    assert dumps(tag) == message
    protected, _, payload, signature = tag.value
    grammar("header").validate_cbor(protected)
    header = loads(protected)
    assert dumps(header) == protected
    assert header[3] == content.value
    (signer,) = (each for each in (signers or TERMINALS).values() if hashlib.sha256(each.public).digest()[:8] == header[4])
    assert header[1] == signer.algorithm
    with_context = dumps(["Signature1", protected, b"", payload])
    try:
        if header[1] == -8:
            Ed25519PublicKey.from_public_bytes(signer.public).verify(signature, with_context)
        else:
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            public = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), signer.public)
            public.verify(encode_dss_signature(r, s), with_context, ECDSA(SHA256()))
    except InvalidSignature as error:
        raise AssertionError("a message was taken whose signature does not fit") from error
    return header[4], payload


def noted(payload: bytes, content: Content) -> tuple[int, int, dict[int, bytes]]:
    """Device and epoch of a heartbeat or a loss that is right; there are no entries in it."""
    grammar(content.name.lower()).validate_cbor(payload)
    parts = loads(payload)
    assert dumps(parts) == payload
    return parts[1], parts[2], {}


def believed(payload: bytes) -> tuple[int, int, dict[int, bytes]]:
    """Device, epoch and entries by number of a batch that is right."""
    content = zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False)
    assert len(content) <= 2**20
    grammar("batch").validate_cbor(content)
    parts = loads(content)
    assert dumps(parts) == content
    assert mended(parts) == parts
    _, device, epoch, first, count, previous, *_ = parts
    entries = entries_of(parts)
    assert 1 <= len(entries) == count <= 1000
    assert first >= 1
    if first == 1:
        assert previous == genesis(device, epoch)
    decodable = parts[10][1:] if 0 in parts[9] else parts[10]
    for column in (column for columns in decodable for column in columns if isinstance(column, list)):
        assert not all(isinstance(each, bytes) and len(each) == 8 for each in column)  # those are joined
    for length, data in zip(parts[9], entries, strict=True):
        if length:
            assert len(data) <= 1024
            assert dumps(loads(data)) == data
    return device, epoch, dict(enumerate(entries, first))


def entries_of(parts: list[Any]) -> list[bytes]:
    """The entries' bytes, unfolded as ``ledger.columns`` describes it."""
    lengths, groups = parts[9], parts[10]
    found: dict[int, Iterator[bytes]] = {}
    for length, columns in zip(sorted(set(lengths)), groups, strict=True):
        count = lengths.count(length)
        if length == 0:
            (entries,) = columns
            assert len(entries) == count
            found[0] = iter(entries)
            continue
        assert len(columns) == length
        values = [apart(column, count, turned=position in {19, 23}) for position, column in enumerate(columns)]
        values[1], values[9], utc_less_mono = (list(accumulate(values[position])) for position in (1, 9, 10))
        values[10] = [less + mono for less, mono in zip(utc_less_mono, values[9], strict=True)]
        found[length] = iter([dumps(list(row)) for row in zip(*values, strict=True)])
    return [next(found[length]) for length in lengths]


def apart(column: Any, count: int, *, turned: bool) -> list[Any]:
    if isinstance(column, bytes) and len(column) == 8 * count:
        return [column[at::count] if turned else column[8 * at : 8 * at + 8] for at in range(count)]
    assert len(column) == count
    return list(column)


def mended(parts: list[Any]) -> list[Any]:
    """The same with the count, the chain and the totals that its entries have."""
    entries = entries_of(parts)
    head = parts[5]
    sums: dict[int, list[int]] = {}
    for place, length, data in zip(range(parts[3], parts[3] + len(entries)), parts[9], entries, strict=True):
        head = hashlib.sha256(head + data).digest()
        row = loads(data) if length else [0, None]
        right = row[1] == place
        fare = loads(row[12])[8:11] if right else (0, 0, 0)
        each = sums.setdefault(row[2] if right else 0, [0, 0, 0, 0])
        each[:] = (each[0] + 1, *(min(MOST, total + more) for total, more in zip(each[1:], fare, strict=True)))
    totals = [[kind, *sums[kind]] for kind in sorted(sums)]
    return [*parts[:4], len(entries), parts[5], head, parts[7], totals, *parts[9:]]


# --- bending ------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Good:
    """A batch that the city would take, and what it is made of."""

    bus: Any
    signer: Signer
    batch: Batch

    @property
    def payload(self) -> bytes:
        return batches.pack(self.batch)

    @property
    def content(self) -> bytes:
        return zstandard.ZstdDecompressor().decompress(self.payload)

    @property
    def message(self) -> bytes:
        return seal.seal(self.signer, Content.BATCH, self.payload)

    def sealed(self, payload: bytes, *, owed: bool | None = None) -> Sent:
        return Sent(seal.seal(self.signer, Content.BATCH, payload), owed)


def bent(chance: random.Random, fleet: dict[int, Any]) -> Sent:
    """A message that was good, bent somewhere between an entry's field and the wire."""
    bus = fleet[chance.choice(list(fleet))]
    first = chance.randrange(1, COUNT + 1)
    good = Good(bus, TERMINALS[bus.device], bus.batch(first, min(COUNT, first + chance.randrange(12))))
    bend = chance.choices(list(BENDS), list(BENDS.values()))[0]
    return bend(chance, good)


def untouched(_: random.Random, good: Good) -> Sent:
    return Sent(good.message, owed=True)


def on_the_line(chance: random.Random, good: Good) -> Sent:
    """By somebody who has no key."""
    body = bytes_bent(chance, good.message)
    return Sent(body, owed=body == good.message)


def again(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(content)


def bytes_bent(chance: random.Random, data: bytes) -> bytes:
    """Bytes changed, cut out, doubled, put in."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        at, length = chance.choice((chance.randrange(len(found) + 1),) * 4 + (0,)), chance.choice((1, 1, 2, 8, 64))
        match chance.randrange(5):
            case 0:
                found[at : at + length] = chance.randbytes(len(found[at : at + length]))
            case 1:
                found[at : at + 1] = bytes(byte ^ 1 << chance.randrange(8) for byte in found[at : at + 1])
            case 2:
                del found[at : at + length]
            case 3:
                found[at:at] = found[at : at + length]
            case _:
                found[at:at] = chance.choice((chance.randbytes(length), b"\xff" * length, b"\x9f", b"\x5f", b"\x1b" + b"\xff" * 8))
    return bytes(found)


def items(data: bytes) -> list[tuple[int, int, int]]:
    """Where each item of some CBOR begins, where its head ends, and where it ends, outer ones first (RFC 8949, section 3)."""
    found: list[tuple[int, int, int]] = []

    def item(at: int) -> int:
        more = data[at] & 31
        begin = at + 1 + (1 << more - 24 if more > 23 else 0)
        size = more if more < 24 else int.from_bytes(data[at + 1 : begin], "big")
        place = len(found)
        found.append((at, begin, begin))
        end = begin
        match data[at] >> 5:
            case 2 | 3:
                end += size
            case 4:
                for _ in range(size):
                    end = item(end)
            case _:
                pass
        found[place] = (at, begin, end)
        return end

    item(0)
    return found


def head(major: int, size: int, width: int) -> bytes:
    """A head whose argument takes ``width`` bytes, needed or not."""
    return bytes((major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[width],)) + (size & 256**width - 1).to_bytes(width, "big")


def item_bent(chance: random.Random, data: bytes) -> bytes:
    """One item's head or place bent, the rest of the CBOR as it was."""
    spots = items(data)
    at, begin, end = chance.choice(spots)
    major, inside = data[at] >> 5, data[begin:end]
    number = int.from_bytes(data[at + 1 : begin], "big") if begin > at + 1 else data[at] & 31
    other = chance.choice(spots)
    match chance.randrange(9):
        case 0:  # not the shortest form
            instead = head(major, number, chance.choice((1, 2, 4, 8))) + inside
        case 1:  # a huge count
            instead = head(major, chance.choice((2**16, 2**31, 2**40, 2**62, 2**64 - 1)), 8) + inside
        case 2:
            instead = head(major, number + chance.choice((-1, 1)), 1 if number < 255 else 8) + inside
        case 3:
            instead = bytes((data[at] & 31 | chance.randrange(8) << 5,)) + data[at + 1 : end]
        case 4:
            instead = bytes((data[at] | 31,)) + inside + b"\xff"
        case 5:
            instead = chance.choice((b"\xc2", b"\xd8\x18", b"\xd9\xd9\xf7", b"\x81", b"\xa1\x00")) + data[at:end]
        case 6:
            instead = b""
        case 7:
            instead = data[at:end] * 2
        case _:
            instead = data[other[0] : other[2]]
    return data[:at] + instead + data[end:]


def odd(chance: random.Random, value: Any) -> Any:
    """The same tree with one thing in it that does not belong there, or stands elsewhere."""
    if isinstance(value, list) and value and chance.random() < 0.9:
        found = list(value)
        at = chance.randrange(len(found))
        match chance.randrange(8):
            case 0:
                del found[at]
            case 1:
                found.insert(at, found[at])
            case 2:
                chance.shuffle(found)
            case _:
                found[at] = odd(chance, found[at])
        return found
    if isinstance(value, bytes) and value and chance.random() < 0.6:
        return bytes_bent(chance, value)
    if isinstance(value, int) and chance.random() < 0.5:
        return value + chance.choice((-1, 1, 8, 256, 2**31, 2**62))
    return chance.choice(ODD)


def of_its_type(chance: random.Random, value: Any) -> Any:
    """Another value of the type that belongs there: what the form cannot refuse."""
    return chance.choice([each for each in ODD if type(each) is type(value) and (not isinstance(each, int) or 0 <= each <= MOST)])


def content_bent(chance: random.Random, good: Good) -> Sent:
    return good.sealed(again(chance.choice((bytes_bent, item_bent))(chance, good.content)))


def value_bent(chance: random.Random, good: Good) -> Sent:
    return good.sealed(again(dumps(odd(chance, loads(good.content)))))


def frame_bent(chance: random.Random, good: Good) -> Sent:
    return good.sealed(another_frame(chance, good.payload, good.content))


def another_frame(chance: random.Random, payload: bytes, content: bytes) -> bytes:
    """The compressed frame in another form, or broken (RFC 8878, section 3.1)."""
    match chance.randrange(8):
        case 0:
            return zstandard.ZstdCompressor(write_content_size=False).compress(content)
        case 1:
            return zstandard.ZstdCompressor(write_checksum=True).compress(content)
        case 2:
            return payload + chance.choice((payload, b"\0", b"\x50\x2a\x4d\x18\0\0\0\0"))
        case 3:
            return b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + payload
        case 4:  # its size is another than it says
            size = int.from_bytes(payload[5:7], "little")
            return payload[:5] + ((size + chance.choice((-1, 1, 999))) & 0xFFFF).to_bytes(2, "little") + payload[7:]
        case 5:
            return payload[:4] + bytes((payload[4] ^ 1 << chance.randrange(8),)) + payload[5:]
        case 6:
            return content
        case _:
            return bytes_bent(chance, payload)


def columns_bent(chance: random.Random, good: Good) -> Sent:
    """Columns that say something else, with the count, chain and totals that fit them, where there are any."""
    parts = loads(good.content)
    group = chance.choice(parts[10])
    at = chance.randrange(len(group))
    match chance.randrange(8):
        case 0:
            parts[9] = bytes_bent(chance, parts[9])
        case 1:
            parts[10] = odd(chance, parts[10])
        case 2 if isinstance(group[at], bytes):  # not joined
            group[at] = [group[at][begin : begin + 8] for begin in range(0, len(group[at]), 8)]
        case 3 if isinstance(group[at], list):
            inside = chance.randrange(len(group[at]))
            group[at][inside] = of_its_type(chance, group[at][inside])
        case _:
            group[at] = odd(chance, group[at])
    with suppress(Exception):  # there may be no entries in it; then it goes as it is
        parts = mended(parts)
    return good.sealed(again(dumps(parts)))


def entries_bent(chance: random.Random, good: Good) -> Sent:
    """A batch of odd entries, made as a good sender makes it: the city owes a receipt, and sets aside what it cannot book.

    In one of several ledgers, so that not all numbers are taken soon.
    """
    batch, epoch = good.batch, good.batch.epoch + chance.randrange(9)
    batch = replace(batch, epoch=epoch, previous=genesis(batch.device, epoch) if batch.first_seq == 1 else batch.previous)
    entries = list(batch.entries)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(entries))
        data = entries[at]
        match chance.randrange(8):
            case 0:
                entries[at] = bytes_bent(chance, data)
            case 1:
                entries[at] = item_bent(chance, data) if codec_reads(data) else chance.randbytes(chance.randrange(1, 99))
            case 2:
                entries[at] = chance.choice(entries)
            case 3:
                entries[at] = data[:1] + bytes((chance.choice((0, 2, 3, 23)),)) + data[2:]  # of another version
            case _ if codec_reads(data):
                entries[at] = field_bent(chance, data)
            case _:
                entries[at] = b""
    try:
        return good.sealed(batches.pack(replace(batch, entries=tuple(entries))), owed=True)
    except LedgerError:
        return good.sealed(batches.pack(batch), owed=True)


def codec_reads(data: bytes) -> bool:
    with suppress(LedgerError):
        codec.decode(data, device=1, epoch=1)
        return True
    return False


def field_bent(chance: random.Random, data: bytes) -> bytes:
    """An entry with one field, of itself or of its circumstances, that is another."""
    parts = loads(data)
    if chance.random() < 0.5:
        inside = loads(parts[12])
        at = chance.randrange(len(inside))
        inside[at] = chance.choice((odd, of_its_type, of_its_type))(chance, inside[at])
        parts[12] = dumps(inside)
    else:
        at = chance.randrange(2, len(parts)) if chance.random() < 0.8 else 1
        parts[at] = chance.choice((odd, of_its_type, of_its_type))(chance, parts[at])
    return dumps(parts)


def place_bent(chance: random.Random, good: Good) -> Sent:
    """Good entries, said to be of another ledger or another place in it, or to follow another past."""
    batch = good.batch
    first = chance.choice((batch.first_seq, 1, 2, COUNT + 2, 2**31, 2**53, MOST - batch.count, MOST - batch.count + 1))
    moved = replace(
        batch,
        device=chance.choice((*(batch.device,) * 5, 3 - batch.device, 0, 99, MOST)),
        epoch=chance.choice((batch.epoch, batch.epoch, batch.epoch + 9, 0, MOST)),
        first_seq=first,
        created_ms=chance.choice((0, NOW_MS, 2**53, MOST)),
    )
    previous = chance.choice((batch.previous, bytes(32), chance.randbytes(32)))
    moved = replace(moved, previous=genesis(moved.device, moved.epoch) if first == 1 else previous)
    try:
        return good.sealed(batches.pack(moved), owed=moved.device == batch.device)
    except LedgerError:
        return good.sealed(good.payload)


def disguised(chance: random.Random, good: Good) -> Sent:
    """A good batch by another key, in another's name, or as something that it is not."""
    other = next(each for each in TERMINALS.values() if each is not good.signer)
    theirs, mine = (hashlib.sha256(each.public).digest()[:8] for each in (good.signer, STRANGER))
    content = chance.choice([each for each in Content if each is not Content.BATCH])
    body = chance.choice(
        (
            seal.seal(STRANGER, Content.BATCH, good.payload),
            seal.seal(STRANGER, Content.BATCH, good.payload).replace(mine, theirs),
            seal.seal(other, Content.BATCH, good.payload),
            seal.seal(good.signer, content, good.payload),
        )
    )
    return Sent(body, owed=False)


def note_bent(chance: random.Random, of: Good) -> Sent:
    """A heartbeat, or a loss in an epoch of its own, with something odd in it."""
    bus, signer, at = of.bus, of.signer, When(1, 2, NOW_MS, 3)
    if chance.random() < 0.5:
        content = Content.HEARTBEAT
        tests = tuple((part, chance.choice((WORKS, NOT_TESTED))) for part in PARTS)
        good = notes.encode_heartbeat(Heartbeat(bus.device, bus.epoch, COUNT, bus.hashes[-1], at, tests, 10**9, Versions(), "0.1.0"))
    else:
        content = Content.LOSS
        good = notes.encode_loss(Loss(bus.device, bus.epoch + 500_000, 1, 3, LossReason.MISSING, at))
    match chance.randrange(6):
        case 0:
            return Sent(seal.seal(signer, content, good), owed=True, content=content)
        case 1:
            payload = bytes_bent(chance, good)
        case 2:
            payload = item_bent(chance, good)
        case _:
            payload = dumps(odd(chance, loads(good)))
    return Sent(seal.seal(signer, content, payload), content=content)


def loaded(chance: random.Random, good: Good) -> Sent:
    return good.sealed(chance.choice(bombs())[1], owed=False)


BENDS: dict[Callable[[random.Random, Good], Sent], int] = {
    untouched: 8,
    on_the_line: 8,
    disguised: 5,
    frame_bent: 6,
    content_bent: 12,
    value_bent: 12,
    columns_bent: 20,
    entries_bent: 25,
    place_bent: 8,
    note_bent: 10,
    loaded: 1,
}


# --- bombs --------------------------------------------------------------------------------------------------------------------------------


@lru_cache
def bombs() -> tuple[tuple[str, bytes], ...]:
    """Payloads that would be large, or take long, if somebody made of them what they say."""
    within = 2**20 - 2**16
    zeros = (2**17 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (2**17 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"

    def often(item: bytes) -> bytes:
        return b"\x9a" + (within // len(item)).to_bytes(4, "big") + item * (within // len(item))

    def in_the_column(number: int, value: bytes) -> bytes:
        columns = [b"\x81\x01", b"\x81\x02", b"\x81\x15", *[b"\x81\x00"] * 3, b"\x81\x63row", b"\x81\x60", *[b"\x81\x01"] * 4, b"\x81\x40"]
        columns[number] = value
        frame = dumps([1, 1, 4711, 2, 1, bytes(32), bytes(32), 5, [[21, 1, 0, 0, 0]], b"\x0d"])
        return b"\x8b" + frame[1:] + b"\x81\x8d" + b"".join(columns)

    def text(tag: bytes, letter: bytes) -> bytes:
        return tag + b"\x7a" + within.to_bytes(4, "big") + letter * within

    known = (0, 1, 2, 3, 4, 5, 24, 25, 28, 29, 30, 32, 33, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43_000, 55_799)
    tags = {number: dumps(CBORTag(number, 0))[:-1] for number in (*known, 65_535, 2**64 - 1)}
    contents = {
        "zeros": bytes(2**20),
        "a byte more than is allowed": bytes(2**20 + 1),
        "forty megabytes of zeros": bytes(40 * 2**20),
        "an array of 2^48": b"\x9b\0\1" + bytes(6),
        "an array of 2^48 inside": b"\x8b\x01\x9b\0\1" + bytes(6),
        "a string of 2^62": b"\x8b\1\x5b\x40" + bytes(7),
        "arrays in arrays": b"\x81" * within,
        "maps in maps": b"\xa1" * within,
        "tags in tags": b"\xc1" * within,
        "endless arrays": b"\x9f" * within,
        "endless strings": b"\x5f" * within,
        "the same again": b"\xd8\x1c\x81\xd8\x1d\0",
        "a power of ten": b"\xc4\x82\x1a\x7f\xff\xff\xff\1",
        "a long number": b"\x8b\xc2\x59\x40\0" + b"\xff" * 0x4000 + bytes(10),
        "a version of a megabyte": b"\x8b" + text(b"", b"x") + bytes(10),
        "a pattern": text(b"\xd8\x23", b"("),
        "letters": text(b"\xd8\x24", b"\n"),
        **{f"often {item.hex()}": often(item) for item in (b"\0", b"\xe0", b"\xa0", b"\xa1\0\0", b"\x80", b"\x81\x81\0", b"\x62ab")},
        **{f"many of tag {number}": often(tag + item) for number, tag in tags.items() for item in (b"\x61a", b"\x80")},
        **{f"a column of {item.hex()}": in_the_column(12, often(item)) for item in (b"\0", b"\xe0", b"\xa0", b"\x40", b"\x41\x80")},
        "circumstances that are large": in_the_column(12, b"\x81\x5a" + within.to_bytes(4, "big") + often(b"\xa0")[: within]),
        "circumstances that are letters": in_the_column(12, b"\x81\x5a" + (within + 7).to_bytes(4, "big") + text(b"\xd8\x24", b"\n")),
        "a row of a megabyte": in_the_column(6, b"\x81" + text(b"", b"x")),
    }  # fmt: skip
    frames = {name: zstandard.ZstdCompressor(level=3).compress(content) for name, content in contents.items()}
    frames["a gigabyte"] = b"\x28\xb5\x2f\xfd\xa0" + (2**30).to_bytes(4, "little") + zeros * (2**13 - 1) + last
    frames["an exabyte"] = b"\x28\xb5\x2f\xfd\xe0" + (2**60).to_bytes(8, "little") + b"\1\0\0"
    frames["a megabyte that goes on"] = b"\x28\xb5\x2f\xfd\xa0" + (2**20).to_bytes(4, "little") + zeros * 9999 + last
    frames["a large window"] = b"\x28\xb5\x2f\xfd\x00\xf8" + zeros + last
    return tuple(frames.items())


# --- what must hold -----------------------------------------------------------------------------------------------------------------------

PER_SEED = 100


def a_fleet(vehicle: MakeVehicle, seed: int) -> dict[int, Any]:
    """Both terminals, in an epoch that nobody has heard of."""
    return {device: vehicle(device, 4711 + 20 * seed, COUNT) for device in TERMINALS}


@pytest.mark.prove(parts=20)
def test_no_bent_message_breaks_the_door_and_none_is_taken_that_should_not_be(
    books: Store, city: City, vehicle: MakeVehicle, proof: Any
) -> None:
    witness = Witness()

    def messages() -> Iterator[Sent]:
        for seed in proof.seeds(small=3, full=2000):
            chance = random.Random(seed)
            fleet = a_fleet(vehicle, seed)
            for _ in range(PER_SEED):
                yield bent(chance, fleet)
            witness.agrees_with(books)

    asyncio.run(knock(city, messages(), witness))
    witness.counted(books)


DEPTHS = (
    "The message does not begin",
    "The protected header",
    "The message holds a receipt",
    "The signature of the message has",
    "No device has a key",
    "The message names another algorithm",
    "The signature does not fit",
    "The batch does not begin as a zstd frame",
    "The batch is a broken zstd frame",
    "The batch does not say how long its content is",
    "The batch is not CBOR as this house uses it",
    "The batch is CBOR, but not in its one deterministic form",
    "The batch has the wrong type",
    "The batch has a column that does not hold",
    "The batch has columns that are not in their one form",
    "The batch has an entry among those that can be decoded that cannot",
    "The batch's totals are not those",
    "The chain over the batch's entries does not end",
    "The key is that of device",
    "a conflict",
    "an entry: accepted",
    "an entry: malformed",
    "an entry: misplaced",
    "an entry: impossible",
    "an entry: later",
    "taken: a batch",
    "taken: a heartbeat",
    "taken: a loss",
)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_bending_reaches_every_step_behind_the_door(city: City, vehicle: MakeVehicle) -> None:
    witness = Witness()
    fleet = a_fleet(vehicle, 0)
    chance = random.Random(0)
    asyncio.run(knock(city, (bent(chance, fleet) for _ in range(600)), witness))
    assert [depth for depth in DEPTHS if not any(said.startswith(depth) for said in witness.said)] == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_every_bomb_is_refused_in_words_and_takes_no_room(books: Store, city: City) -> None:
    witness = Witness()
    asyncio.run(knock(city, (Sent(seal.seal(TERMINALS[1], Content.BATCH, bomb), owed=False) for _, bomb in bombs()), witness))
    assert witness.said.total() == len(bombs())
    witness.counted(books)

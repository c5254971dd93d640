"""How a terminal comes to its city: what it says, what it believes, and what it writes down (pure).

A clerk reads a one-time code out; somebody at the terminal types it. The terminal makes a device key *here*, which nobody has seen and
no stick has carried, proves by its signature that it has it, and gets its number, its name and the keys by which it will know the city
from then on. A token's key was made inside it, and that one is enrolled.

The power may go at any step. The key lies on the disk before it is shown to the city, beside the old one. The city's answer lies whole on
the disk before the key takes its place, and names the key, so whoever opens the keyring next can finish (``firmware.keyring.settle``).
Before that the same command, run again with the same code, shows the same key, and the city answers the same.

What the answer is believed for: there is no city key yet by which it could be signed, so the whole trust is the connection's. That is why
plain HTTP goes to this machine only, and why a city with an authority of its own gives its certificate along (``--ca``).
"""

import base64
import json
import tomllib
from dataclasses import dataclass
from typing import TypeGuard

from firmware.failure import Failure
from ledger.carrier import JSON, Answer, printable
from ledger.seal import Algorithm, Signer, key_id

DOOR = "/v1/enrolments"
PROOF_CONTEXT = b"kazashi enrol"
MOST_TERMINAL = 0xFFFFFF
MOST_NAME, MOST_KEYS, MOST_BYTES = 64, 16, 16 * 1024
FIRST_LINE = "# Written by `kazashi enrol`. Running it again replaces this file."
_CODE_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH, _CODE_GROUP = 16, 4
_ALIKE = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})
_PUBLIC_BYTES = {Algorithm.EDDSA: 32, Algorithm.ES256: 65}
_LATER = frozenset({408, 429, 503})


class KnownKey(Failure):
    """The city knew this key before; another one is needed."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What the city said: this terminal's number and name, and the city's keys, the one in use first."""

    device: int
    name: str
    city_keys: tuple[tuple[Algorithm, bytes], ...]


def code_of(typed: str) -> str:
    """A one-time code as the city writes it; case, hyphens, and letters that look alike make no difference. Raises ``Failure``."""
    letters = "".join(typed.split()).upper().translate(_ALIKE)
    if len(letters) != _CODE_LENGTH or set(letters) - set(_CODE_LETTERS):
        raise Failure(f"the code: must be {_CODE_LENGTH} letters and digits, such as 7KQ2-M04X-9ZBT-31RE; have it read out again")
    return "-".join(letters[at : at + _CODE_GROUP] for at in range(0, _CODE_LENGTH, _CODE_GROUP))


def application(code: str, signer: Signer) -> bytes:
    """The body of the request: the code, the public key, and the proof that its private half is here. Raises what ``signer`` raises."""
    asked = {
        "code": code,
        "algorithm": signer.algorithm.name.lower(),
        "public_key": _base64url(signer.public),
        "proof": _base64url(signer.sign(PROOF_CONTEXT + code.encode())),
    }
    return json.dumps(asked).encode()


def understood(answer: Answer, url: str) -> Enrolled:
    """What the city said. Raises ``Failure`` in words with what to do, ``KnownKey`` among them."""
    if answer.status == 201 and answer.media_type == JSON:
        found = _enrolled(answer.body)
        if found is not None:
            return found
        raise Failure(f"{url}: the city's answer is not what enrolment gives; nothing was changed here, install the version of the city")
    raise _refusal(answer, url)


def _refusal(answer: Answer, url: str) -> Failure:
    said = f" ({answer.detail.rstrip('.')})" if answer.detail else ""
    match _word(answer):
        case "enrolment-code":
            return Failure(
                "the code: the city does not take it; it is unknown, expired, or another terminal used it. "
                "Ask the city's office for a new one (`kazashi backoffice enrol NAME`)"
            )
        case "known-key":
            return KnownKey(
                "keys.file: the city knew the key of this token before, and takes no key twice; empty the token and fill it again "
                "(`kazashi card keys --token`), then enrol with the same code"
            )
        case "bad-signature":
            return Failure("keys.file: the city finds that this terminal's signature does not fit its key; take another key file or token")
        case "malformed":
            return Failure(f"{url}: the city does not understand this terminal{said}; install the version of the city's software")
        case _ if answer.status in _LATER:
            when = "later" if answer.retry_after_s is None else f"in {answer.retry_after_s:.0f} seconds"
            return Failure(f"{url}: the city has no time now{said}; run the same again {when}, the code stays good")
        case _ if answer.status >= 500:
            return Failure(f"{url}: the city made a mistake (status {answer.status}){said}; tell its office, and run the same again later")
        case _:
            return Failure(f"{url}: no city of Kazashi answers there (status {answer.status}){said}; correct the address")


def _word(answer: Answer) -> str:
    """The last part of a problem's type (RFC 9457, section 3.1.1)."""
    if answer.media_type != "application/problem+json":
        return ""
    kind = _table(answer.body).get("type")
    return kind.rpartition("/")[2] if isinstance(kind, str) else ""


def _enrolled(body: bytes) -> Enrolled | None:
    if len(body) > MOST_BYTES:
        return None
    found = _table(body)
    device, name, keys = found.get("device"), found.get("name"), found.get("city_keys")
    if type(device) is not int or not 1 <= device <= MOST_TERMINAL:
        return None
    if not isinstance(name, str) or not 1 <= len(name) <= MOST_NAME or printable(name) != name:
        return None
    if not _is_list(keys) or not 1 <= len(keys) <= MOST_KEYS:
        return None
    known = [key for one in keys if (key := _city_key(one)) is not None]
    return Enrolled(device, name, tuple(known)) if len(known) == len(keys) else None


def _city_key(given: object) -> tuple[Algorithm, bytes] | None:
    if not _is_table(given):
        return None
    word, text = given.get("algorithm"), given.get("public_key")
    algorithm = next((one for one in Algorithm if one.name.lower() == word), None)
    if algorithm is None or not isinstance(text, str):
        return None
    try:
        public = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    right = len(public) == _PUBLIC_BYTES[algorithm] and given.get("kid") == key_id(public).hex()
    return (algorithm, public) if right else None


def layer(enrolled: Enrolled, key: bytes, url: str, authority: str) -> bytes:
    """The configuration to be read after the vehicle's own. ``key``: the id of the device key; ``authority``: a path, or empty."""
    keys = (
        f'  {{ algorithm = "{algorithm.name.lower()}", public_key = "{_base64url(public)}" }},' for algorithm, public in enrolled.city_keys
    )
    lines = [
        FIRST_LINE,
        "format = 1",
        "",
        "[terminal]",
        f"number = {enrolled.device}",
        "",
        "[city]",
        f"name = {_quoted(enrolled.name)}",
        f"url = {_quoted(url)}",
        *([f"ca = {_quoted(authority)}"] if authority else []),
        f'enrolled_key = "{key.hex()}"',
        "keys = [",
        *keys,
        "]",
    ]
    return ("\n".join(lines) + "\n").encode()


def key_in(text: str) -> bytes:
    """The id of the device key that a ``layer`` names; empty when there is none."""
    try:
        city: object = tomllib.loads(text).get("city")
    except tomllib.TOMLDecodeError:
        return b""
    key = city.get("enrolled_key") if _is_table(city) else None
    try:
        return bytes.fromhex(key) if isinstance(key, str) else b""
    except ValueError:
        return b""


def _quoted(text: str) -> str:
    """A basic string (TOML 1.0): JSON writes it alike, for text without control characters."""
    return json.dumps(text, ensure_ascii=False)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _table(body: bytes) -> dict[str, object]:
    """The JSON object in ``body``; an empty one when it is none."""
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if _is_table(found) else {}


def _is_table(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)

"""The image's tests in tiers. ``make test`` has tier 0 (nothing is built); ``make image-test TIERS=1-3`` says which image and which tiers.

1: what was built. 2: it runs in a container. 3: it runs in QEMU. 4: it is updated there, and its plug is pulled. With ``--prove``
(``make image-prove``) the numbers are the full ones. What a test measured stands in ``build/image/test-ROLE-ARCH/report.json``, beside the
serial logs and pictures.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import vehicle
from images.build import BUILD, ROOT, scratch_place

TIER_OF = {
    "test_image_build.py": 1,
    "test_image_container.py": 2,
    "test_image_guest.py": 3,
    "test_image_city.py": 4,
    "test_image_kiosk.py": 3,
    "test_image_update.py": 4,
    "test_image_crash.py": 4,
}
ROLE_OF = {
    "test_image_container.py": "validator",
    "test_image_guest.py": "validator",
    "test_image_city.py": "validator",
    "test_image_kiosk.py": "kiosk",
    "test_image_update.py": "validator",
    "test_image_crash.py": "validator",
}
NAME = os.environ.get("KAZASHI_IMAGE", "")
FIRST, _, LAST = os.environ.get("KAZASHI_TIERS", "0").partition("-")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the tiers that were not asked for, and what another role's image does."""
    name = collection_path.name
    tier = TIER_OF.get(name, 0)
    asked = int(FIRST) <= tier <= int(LAST or FIRST) and NAME.startswith(ROLE_OF.get(name, ""))
    return True if tier and not asked else None


@pytest.fixture(scope="session")
def image() -> Path:
    """The folder of the built image."""
    folder = BUILD / NAME
    if not NAME or not (folder / "disk.img").exists():
        pytest.fail("there is no image; run `make image-test`")
    return folder


@pytest.fixture(scope="session")
def kept(image: Path) -> Path:
    """Where logs, pictures and the report stay."""
    folder = image.parent / f"test-{image.name}"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def figures(kept: Path) -> Iterator[dict[str, object]]:
    """What was measured; written when the tests end."""
    found: dict[str, object] = {}
    yield found
    path = kept / "report.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **found}, indent=1, sort_keys=True) + "\n")


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder in memory."""
    with tempfile.TemporaryDirectory(dir=scratch_place(), prefix="kazashi-image-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def desk(place: Path) -> Path:
    """A town hall's desk, which has the issuer's keys."""
    folder = place / "desk"
    vehicle.furnish(ROOT, place / "first", folder)
    shutil.rmtree(place / "first")
    return folder


@pytest.fixture(scope="session")
def rider(desk: Path) -> Path:
    """An issued card with 3000 points; copy it into a tray."""
    path = desk / "rider.card"
    vehicle.card(ROOT, desk, path)
    return path

"""Tier 3 of the kiosk's role: its disk starts and its screen says that it is being prepared. Its services have tests of their own."""

import json
import time
from pathlib import Path

from images import guest
from images.command import run
from images.guest import Guest

BOOT_LIMIT_S = 300.0
DRAWN_BYTES = 8_000
"""A picture of one colour is smaller, one with words on it larger."""


def test_it_runs_and_shows_its_first_words(image: Path, place: Path, kept: Path, figures: dict[str, object]) -> None:
    disk = place / "disk.img"
    run(("cp", "--sparse=always", image / "disk.img", disk))
    with Guest(disk, kept / "kiosk", [guest.sound_file(kept / "voice.wav")], cores=2) as machine:
        machine.wait("kazashi: slot A", 120)
        machine.open_shell(BOOT_LIMIT_S)
        machine.wait_for("the first frame is drawn", "systemctl is-active --quiet kazashi-screen", BOOT_LIMIT_S)
        figures["guest_first_frame_s"] = round(time.monotonic() - machine.started_s, 1)
        machine.wait_for("the system runs", "systemctl is-system-running --wait", BOOT_LIMIT_S)
        figures["guest_running_s"] = round(time.monotonic() - machine.started_s, 1)
        assert machine.run("cat /run/kazashi-image/name") == json.loads((image / "image.json").read_text())["name"]
        assert machine.picture("welcome").stat().st_size > DRAWN_BYTES

"""``make image-run``: the appliance on this machine's screen, with a reader and a card to lay on it.

The screen is behind VNC on the loopback, because a machine that builds images often has no screen. Any viewer shows it, and keys typed
there are the driver's (a number pad: Num Lock opens the trip, + is the next stop). The serial line is this terminal: the workshop's shell.
The disk is a copy beside the image and stays until the image is built again, so a ride of yesterday is in the ledger today.
"""

import shutil
import subprocess
from pathlib import Path

from images import guest, vehicle
from images.command import ImageFailure

_DISPLAY = 7
_VNC_PORT = 5900 + _DISPLAY


def run(root: Path, image: Path) -> None:
    """Show the image in this folder, until it is switched off or Ctrl-A X."""
    if not (image / "disk.img").exists():
        raise ImageFailure("there is no image to show; run `make image-run`")
    folder = image / "show"
    disk, desk, tray, card = folder / "disk.img", folder / "desk", folder / "tray", folder / "rider.card"
    if not disk.exists() or disk.stat().st_mtime < (image / "disk.img").stat().st_mtime:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        vehicle.written_disk(root, image / "disk.img", folder, desk)
        vehicle.card(root, desk, card)
    variables = folder / "firmware-variables"
    shutil.copyfile(guest.VARIABLES, variables)
    with vehicle.reader_twin(root, tray, folder / "reader"):
        print(f"The screen: a VNC viewer at 127.0.0.1:{_VNC_PORT}. The voice: {folder / 'voice.wav'}.")
        print(f"A tap: copy {card} into {tray}, and remove it there.")
        print("This terminal is the serial line; Ctrl-A X pulls the plug.", flush=True)
        plugs = (guest.serial_reader(folder / "reader"), guest.keypad(), guest.sound_file(folder / "voice.wav"))
        seen = ("-display", f"vnc=127.0.0.1:{_DISPLAY}", "-serial", "mon:stdio")
        subprocess.run([*guest.machine(disk, variables, plugs, memory_mb=768, cores=2), *seen], check=False)

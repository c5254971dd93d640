"""The update: a signed RAUC bundle of one slot (boot and root), with the hook that refuses what is older."""

import shutil
from pathlib import Path

from images.command import run
from images.pki import Signing

_MANIFEST = """\
[update]
compatible={compatible}
version={version}
description={description}

[bundle]
format=verity

[hooks]
filename=hook
hooks=install-check;

[image.boot]
filename=boot.img

[image.rootfs]
filename=root.img
"""
HOOK = """\
#!/bin/sh
# Asked by RAUC before anything is written. An update that is older than what runs would bring back what was mended.
# A version is NAME+TIME; the time is that of the last change to what the image is made of, as digits.
[ "$1" = install-check ] || exit 0
. /usr/lib/os-release
if [ "${RAUC_MF_COMPATIBLE}" != "${RAUC_SYSTEM_COMPATIBLE}" ]; then
    echo "this update is for ${RAUC_MF_COMPATIBLE}, and this is ${RAUC_SYSTEM_COMPATIBLE}" 1>&2
    exit 10
fi
if [ "${RAUC_MF_VERSION##*+}" -lt "${IMAGE_VERSION##*+}" ]; then
    echo "this update (${RAUC_MF_VERSION}) is older than what runs (${IMAGE_VERSION})" 1>&2
    exit 10
fi
"""


def make(images: tuple[Path, Path], signing: Signing, into: Path, *, compatible: str, version: str, scratch: Path) -> str:
    """Write the bundle of ``images`` (boot slot, root). Returns a remark."""
    folder = scratch / "bundle"
    folder.mkdir(parents=True)
    for path, name in zip(images, ("boot.img", "root.img"), strict=True):
        shutil.copyfile(path, folder / name)
    (folder / "hook").write_text(HOOK)
    (folder / "hook").chmod(0o755)
    description = "made for tests, NOT FOR VEHICLES" if signing.test else "Kazashi"
    (folder / "manifest.raucm").write_text(_MANIFEST.format(compatible=compatible, version=version, description=description))
    into.unlink(missing_ok=True)
    run(("rauc", f"--cert={signing.certificate}", f"--key={signing.key}", "bundle", folder, into))
    return f"{into.stat().st_size / 1e6:.1f} MB{', signed with a TEST key' if signing.test else ''}"

"""A panel, as the kernel shows one: a device to write to and a folder that says what it is like."""

from pathlib import Path

import pytest

from drivers.devices.backlight_linux import Backlights
from drivers.devices.display import Picture
from drivers.devices.display_framebuffer import Framebuffer, NoFramebuffer

BLACK = (0, 0, 0)
PICTURE = Picture("test", 2, 2, BLACK, ())


def panel(folder: Path, *, stride: int = 8, bits: int = 32, mode: str = "U:2x2p-0") -> Path:
    (folder / "sys/fb0").mkdir(parents=True)
    for name, text in (("modes", mode), ("stride", str(stride)), ("bits_per_pixel", str(bits))):
        (folder / "sys/fb0" / name).write_text(f"{text}\n")
    (folder / "fb0").write_bytes(b"?" * stride * 2)
    return folder / "fb0"


def rows(_picture: Picture) -> bytes:
    return bytes(range(16))


def test_a_picture_is_copied_row_by_row(tmp_path: Path) -> None:
    glass = Framebuffer(panel(tmp_path), rows, tmp_path / "sys")
    glass.show(PICTURE)

    assert glass.size == (2, 2)
    assert (tmp_path / "fb0").read_bytes() == bytes(range(16))
    assert not glass.closed()


def test_a_panel_with_longer_rows_gets_them_filled_up(tmp_path: Path) -> None:
    Framebuffer(panel(tmp_path, stride=12), rows, tmp_path / "sys").show(PICTURE)

    assert (tmp_path / "fb0").read_bytes() == bytes(range(8)) + bytes(4) + bytes(range(8, 16)) + bytes(4)


@pytest.mark.parametrize("told", [{"bits": 16, "stride": 4}, {"mode": "no mode"}])
def test_a_panel_that_we_cannot_draw_on_is_refused_in_a_sentence(tmp_path: Path, told: dict[str, int]) -> None:
    with pytest.raises(NoFramebuffer, match="bits a pixel, and 32 are needed"):
        Framebuffer(panel(tmp_path, **told), rows, tmp_path / "sys")


def test_a_machine_without_a_panel_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoFramebuffer, match="there is no panel to draw on"):
        Framebuffer(tmp_path / "fb0", rows, tmp_path / "sys")


def test_every_backlight_dims_to_a_tenth_and_back_and_one_that_is_not_ours_is_no_error(tmp_path: Path) -> None:
    for name, highest in (("panel", "255"), ("odd", "no number"), ("dark", "4")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "max_brightness").write_text(highest)
    lights = Backlights(tmp_path)
    lights.dim(dimmed=True)
    assert [(tmp_path / name / "brightness").read_text() for name in ("panel", "dark")] == ["25", "1"]
    lights.dim(dimmed=False)
    assert (tmp_path / "panel" / "brightness").read_text() == "255"
    assert not (tmp_path / "odd" / "brightness").exists()
    Backlights(tmp_path / "none").dim(dimmed=True)

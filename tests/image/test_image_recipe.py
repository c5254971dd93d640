"""What an image is made of, before anything is built: recipes, locks, kernel modules, steps."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images import kernel, lock, recipe
from images.boot import arguments
from images.build import Order, read_recipe
from images.lock import LockError, Pinned
from images.recipe import RecipeError, alternatives
from images.rootfs import OURS
from images.steps import Steps, digest_of
from images.verity import Verified
from images.wheels import Distribution, reached

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKS = sorted((ROOT / "images" / "locks").glob("*.txt"))
SMALL = """
role = "validator"
suite = "bookworm"
target = "a.target"
alone = "no_trip"
[initrd]
modules = ["m"]
[sizes]
esp_mb = 1
boot_mb = 2
root_mb = 3
data_mb = 4
[[package]]
name = "systemd"
why = "starts"
"""


def small(**files: str) -> recipe.Recipe:
    return recipe.read("top.toml", lambda name: {"small.toml": SMALL, **{f"{key}.toml": text for key, text in files.items()}}[name])


def test_a_recipe_that_is_like_another_adds_to_it() -> None:
    found = small(top='like = "small.toml"\nrole = "kiosk"\n[[package]]\nname = "opensc"\nwhy = "asks"\n')
    assert (found.role, found.suite, found.packages) == ("kiosk", "bookworm", ("systemd", "opensc"))


def test_a_package_without_a_reason_is_refused_with_its_place() -> None:
    with pytest.raises(RecipeError, match=r"top.toml: \[\[package\]\] number 2 has no reason"):
        small(top='like = "small.toml"\n[[package]]\nname = "perl"\n')


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("role = ", "is not TOML"),
        ("suite = 'bookworm'", r"\[sizes\] is missing"),
        (SMALL.replace("esp_mb = 1", "esp_mb = 'x'"), "'esp_mb' must be"),
    ],
)
def test_a_broken_recipe_says_where(text: str, what: str) -> None:
    with pytest.raises(RecipeError, match=f"top.toml: .*{what}"):
        small(top=text)


def test_both_roles_have_a_recipe_and_fit_their_partitions_on_a_four_gigabyte_card() -> None:
    for role in recipe.ROLES:
        found = read_recipe(role)
        sizes = found.sizes
        assert found.role == role
        assert sizes.esp_mb + 2 * (sizes.boot_mb + sizes.root_mb) + sizes.data_mb < 3_600


def test_no_recipe_installs_a_compiler_a_shell_server_or_perl() -> None:
    for path in LOCKS:
        installed = {pin.name for pin in lock.read(path.read_text(), path.name) if not pin.taken}
        assert not {name for name in installed if name.startswith(("gcc-1", "g++", "binutils", "make", "libllvm", "openssh"))} - {
            "gcc-12-base"
        }
        assert "perl" not in installed
        assert "perl-base" in read_recipe(path.stem.split("-")[0]).left_out


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_package_of_a_recipe_is_pinned_with_a_hash(path: Path) -> None:
    role, architecture = path.stem.split("-")
    found = read_recipe(role)
    pins = lock.read(path.read_text(), path.name)
    assert set(found.packages) <= {pin.name for pin in pins if not pin.taken}
    assert len([pin for pin in pins if pin.taken]) == len(found.taken_on(architecture))
    assert lock.write(pins, f"{role} on {architecture}") == path.read_text()
    assert "://" not in path.read_text()


PINS = st.builds(
    Pinned,
    name=st.from_regex(r"[a-z0-9][a-z0-9.+-]{1,20}", fullmatch=True),
    version=st.from_regex(r"[0-9][0-9A-Za-z.+~:-]{0,20}", fullmatch=True),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    size=st.integers(0, 10**12),
    taken=st.booleans(),
)


@given(st.lists(PINS))
def test_a_lock_that_was_written_is_read_back(pins: list[Pinned]) -> None:
    assert sorted(map(repr, lock.read(lock.write(pins, "x"), "x"))) == sorted(map(repr, pins))


def test_a_lock_that_was_edited_is_refused_with_its_line() -> None:
    with pytest.raises(LockError, match=r"locks/x\.txt, line 2: is no pin"):
        lock.read("# x\nbash=1.0\n", "locks/x.txt")


def test_braces_are_alternatives_also_within_one_another() -> None:
    assert alternatives("a/{b,c{d,e}}/f") == ("a/b/f", "a/cd/f", "a/ce/f")
    assert alternatives("a") == ("a",)


DEPENDENCIES = (
    "kernel/fs/x/x.ko: kernel/lib/y.ko kernel/lib/z.ko\nkernel/lib/y.ko: kernel/lib/z.ko\nkernel/lib/z.ko:\nkernel/fs/xy/xy.ko:\n"
)


def test_a_module_that_stays_keeps_what_it_needs_and_no_neighbour() -> None:
    needed = kernel.needs(DEPENDENCIES)
    assert kernel.kept(needed, ["fs/x"]) == {"kernel/fs/x/x.ko", "kernel/lib/y.ko", "kernel/lib/z.ko"}
    assert kernel.kept(needed, ["lib/y"]) == {"kernel/lib/y.ko", "kernel/lib/z.ko"}


def test_early_modules_are_loaded_after_what_they_need_and_unknown_ones_are_built_in() -> None:
    assert kernel.named(kernel.needs(DEPENDENCIES), ["x", "not_there"]) == ["kernel/lib/z.ko", "kernel/lib/y.ko", "kernel/fs/x/x.ko"]


def test_a_vehicle_gets_the_wheels_that_are_needed_and_not_those_that_build() -> None:
    there = {
        name: Distribution(name, "1", "", needs, Path())
        for name, needs in {"cryptography": ("cffi>=1; python_version > '3'",), "cffi": (), "hatchling": (), "tests": ()}.items()
    }
    assert reached(there, ["Cryptography>=45", 'tests; extra == "dev"']) == {"cryptography", "cffi"}


def test_no_part_of_an_image_is_a_test_the_back_office_or_the_build() -> None:
    assert not {"backoffice", "tests", "images", "tools"} & set(OURS)
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert "images" not in wheel


def test_the_workshops_image_differs_from_a_vehicles_by_visible_words_only() -> None:
    verified = Verified("ab" * 32, 4096)
    field, dev = (set(arguments(verified, dev=each).split()) for each in (False, True))
    assert {"kazashi.dev"} <= dev - field
    assert not {word for word in field if "ttyS" in word or "shell" in word}
    assert f"kazashi.hash={verified.hash}" in field & dev


def test_a_step_is_made_once_for_its_inputs_and_again_after_it_was_broken_off(tmp_path: Path) -> None:
    result, made = tmp_path / "result", list[str]()

    def make() -> str:
        made.append("x")
        result.write_text("x")
        return "fine"

    def break_off() -> str:
        raise KeyboardInterrupt

    steps = Steps(lambda _line: None)
    steps.step("a", result, "one", make)
    steps.step("a", result, "one", make)
    with pytest.raises(KeyboardInterrupt):
        steps.step("a", result, "two", break_off)
    steps.step("a", result, "one", make)
    assert (len(made), steps.kept) == (2, ["a"])


def test_what_a_folder_holds_changes_its_digest_but_not_when_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    first = digest_of(tmp_path, "x")
    file.write_text("1")
    assert digest_of(tmp_path, "x") == first
    file.chmod(0o755)
    assert digest_of(tmp_path, "x") != first
    file.rename(tmp_path / "b")
    assert digest_of(tmp_path, "x") != first


def test_an_order_names_its_folder() -> None:
    assert Order("validator", "amd64").folder.name == "validator-amd64"

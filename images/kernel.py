"""Which kernel modules stay, and the initrd. The choice is pure; the files are moved in ``rootfs`` and ``boot``.

``modules.dep`` says what each module needs (depmod(8)). A recipe names folders and modules by their path below ``kernel/``; what those
need comes along, everything else goes: of 390 MB a tenth remains.
"""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath


def needs(modules_dep: str) -> Mapping[str, tuple[str, ...]]:
    """``modules.dep``: each module's path and the paths of all that it needs."""
    found: dict[str, tuple[str, ...]] = {}
    for line in modules_dep.splitlines():
        path, _, rest = line.partition(":")
        found[path] = tuple(rest.split())
    return found


def kept(needed: Mapping[str, tuple[str, ...]], prefixes: Iterable[str]) -> set[str]:
    """The modules below ``kernel/PREFIX`` (a folder, or a module's path without ``.ko``), and what they need."""
    wanted = [PurePosixPath("kernel") / prefix for prefix in prefixes]
    chosen = {path for path in needed if any(_below(PurePosixPath(path), prefix) for prefix in wanted)}
    return chosen | {other for path in chosen for other in needed[path]}


def _below(path: PurePosixPath, prefix: PurePosixPath) -> bool:
    return prefix in path.parents or path.with_name(_name(path)) == prefix.with_name(_name(prefix))


def named(needed: Mapping[str, tuple[str, ...]], names: Iterable[str]) -> list[str]:
    """The paths of modules by name in the order in which they can be loaded: what a module needs comes before it.

    A name that this kernel has no module for is built in, or is another architecture's; it is left out.
    """
    by_name = {_name(PurePosixPath(path)).replace("-", "_"): path for path in needed}
    found: dict[str, None] = {}
    for name in names:
        if path := by_name.get(name.replace("-", "_")):
            found.update(dict.fromkeys([*reversed(needed[path]), path]))
    return list(found)


def _name(path: PurePosixPath) -> str:
    return path.name.split(".ko")[0]

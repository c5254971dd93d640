"""Debian's apt, with a state of its own below ``build/``, and from the mirrors that this machine already trusts.

No mirror is named in this tree: the machine's own sources say where Debian is, and Debian's archive key says that it is Debian. Solving
and fetching are two steps. ``solve`` (``make image-pins``) asks apt what a list of packages needs today and notes the hash of every file.
``fetch`` brings exactly those files; a file that is here already is not asked for, so a build works without a network, and goes on working
after the mirror has moved to a newer version.
"""

import fnmatch
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.command import ImageFailure, run
from images.lock import Pinned
from images.recipe import Recipe

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, slots=True)
class Apt:
    """apt for one architecture, its state in ``home``, the packages it fetched in ``pool``."""

    home: Path
    pool: Path
    suite: str
    architecture: str

    def solve(self, recipe: Recipe) -> tuple[Pinned, ...]:
        """What installing the recipe's packages into an empty system brings today, and the packages that files are taken of."""
        self._refresh()
        # apt itself counts as essential; nothing that we install asks for it.
        wanted = ["?and(?essential, ?not(?exact-name(apt)))", *recipe.packages]
        told = self._apt("install", "--simulate", *wanted)
        installed = re.findall(r"^Inst (\S+) \((\S+) ", told, re.MULTILINE)
        taken = [self._followed(each.package, each.follow) for each in recipe.taken_on(self.architecture)]
        return tuple(self._pinned(installed, taken=False)) + tuple(self._pinned(((name, "") for name in taken), taken=True))

    def fetch(self, pins: Sequence[Pinned]) -> int:
        """Bring what is missing in ``pool``; how many bytes came. Every file is checked against its pin."""
        self.pool.mkdir(parents=True, exist_ok=True)
        missing = [pin for pin in pins if not self.path(pin).exists()]
        if not missing:
            return 0
        self._refresh()
        inbox = self.home / "inbox"
        shutil.rmtree(inbox, ignore_errors=True)
        inbox.mkdir()
        try:
            self._apt("download", *(f"{pin.name}={pin.version}" for pin in missing), cwd=inbox)
        except ImageFailure as failure:
            raise ImageFailure(
                f"{failure}\nThe mirror may have moved on to newer packages: run `make image-pins`, look at what changed, and build again."
            ) from failure
        arrived = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in inbox.glob("*.deb")}
        for pin in missing:
            if pin.sha256 not in arrived:
                raise ImageFailure(
                    f"{pin.name} {pin.version}: what came is not the pinned file; nothing was kept. Trust no mirror that does so."
                )
            arrived[pin.sha256].rename(self.path(pin))
        shutil.rmtree(inbox)
        return sum(pin.size for pin in missing)

    def path(self, pin: Pinned) -> Path:
        """Where the pool keeps this package."""
        return self.pool / f"{pin.sha256}.deb"

    def _refresh(self) -> None:
        """Read the mirrors' lists, once an hour at most."""
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        (self.home / "status").write_text("")
        (self.home / "sources.list").write_text("".join(_sources(self.suite)))
        (self.home / "apt.conf").write_text(
            f'Dir::State "{self.home}/state"; Dir::State::status "{self.home}/status"; Dir::Cache "{self.home}/cache";\n'
            f'Dir::Etc::sourcelist "{self.home}/sources.list"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::preferencesparts "/dev/null";\n'
            f'APT::Architecture "{self.architecture}"; APT::Architectures {{ "{self.architecture}"; }};\n'
            'APT::Install-Recommends "false"; APT::Sandbox::User "root"; Acquire::Languages "none";\n'
        )
        self._apt("update")

    def _apt(self, *words: str, cwd: Path | None = None) -> str:
        return run(("apt-get", "-qq", *words), cwd=cwd, env={"APT_CONFIG": str(self.home / "apt.conf")})

    def _show(self, names: Sequence[str]) -> Iterator[dict[str, str]]:
        told = run(("apt-cache", "show", "--no-all-versions", *names), env={"APT_CONFIG": str(self.home / "apt.conf")})
        for paragraph in told.strip().split("\n\n"):
            yield dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.MULTILINE))

    def _followed(self, package: str, pattern: str) -> str:
        """The package that ``package`` stands for: the one of its dependencies that fits ``pattern``."""
        if not pattern:
            return package
        (about,) = self._show([package])
        needs = re.findall(r"([a-z0-9][a-z0-9.+-]+)(?: \([^)]*\))?", about.get("Depends", ""))
        try:
            return next(str(name) for name in needs if fnmatch.fnmatch(str(name), pattern))
        except StopIteration:
            raise ImageFailure(f"{package} depends on nothing like {pattern}; correct the recipe") from None

    def _pinned(self, wanted: Iterable[tuple[str, str]], *, taken: bool) -> Iterator[Pinned]:
        names = [f"{name}={version}" if version else name for name, version in wanted]
        for about in self._show(names):
            yield Pinned(about["Package"], about["Version"], about["SHA256"], int(about["Size"]), taken)


def _sources(suite: str) -> Iterator[str]:
    """This machine's Debian mirrors for ``suite``, as lines of a ``sources.list``."""
    wanted = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    told = run(("apt-get", "indextargets", "--format", wanted, "Created-By: Packages", "Origin: Debian"))
    lines = [line for line in dict.fromkeys(told.splitlines()) if line.split()[1].startswith(suite)]
    if not lines:
        raise ImageFailure(f"this machine's apt knows no Debian mirror for {suite}; add one to its sources and run `apt-get update`")
    for line in lines:
        yield f"deb [signed-by={_KEYRING}] {line}\n"

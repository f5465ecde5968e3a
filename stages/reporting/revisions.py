"""Two states of the repository side by side: commits, or the working tree."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import InputError


def git(*arguments: str) -> str:
    """What a git command prints.

    :raises InputError: with git's own words, if it fails.
    """
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InputError("git is missing. Install it, for example with `apt install git`.") from error
    if done.returncode:
        raise InputError(f"`git {' '.join(arguments)}` failed: {done.stderr.strip()} Does the commit exist, and is the clone complete (`git fetch --unshallow`)?")
    return done.stdout


def parting(revision: str) -> str:
    """The commit at which the current branch left ``revision``: what has happened there since is not this branch's change."""
    return git("merge-base", revision, "HEAD").strip()


@dataclass(frozen=True)
class Revision:
    """A state of the repository's tracked files."""

    name: str | None
    "a commit; nothing for the working tree"

    def files(self, folder: str, suffix: str) -> list[str]:
        """The files of a folder with a suffix, sorted."""
        listed = ("ls-tree", "-r", "--name-only", self.name) if self.name else ("ls-files", "-co", "--exclude-standard")
        found = git(*listed, "--", folder).splitlines()
        return sorted(path for path in found if path.endswith(suffix) and (self.name or Path(path).exists()))

    def read(self, path: str) -> str:
        """The text of a file; nothing if it is not there."""
        if self.name is None:
            return Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""
        return git("show", f"{self.name}:{path}") if git("ls-tree", self.name, "--", path) else ""


def difference(before: Revision, after: Revision, folder: str) -> str:
    """The changes of a folder's text, as ``git diff`` writes them; new files that git does not track yet are left out."""
    names = [name for name in (before.name, after.name) if name]
    return git("diff", "--no-color", "--no-ext-diff", *names, "--", folder)

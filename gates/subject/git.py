"""The state of the work tree that a subject runs in."""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from honestloop.suite_location import ROOT


@dataclass(frozen=True)
class Git:
    """State of the work tree; all None where there is no commit to name."""

    sha: str | None
    dirty: bool | None
    diff_sha256: str | None


def git_state(root: Path = ROOT) -> Git:
    """The commit that is checked out, whether anything differs from it, and the hash of the difference."""
    try:
        sha, status, diff = (
            subprocess.run(
                ["git", *words],
                cwd=root,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
                capture_output=True,
                check=True,
            ).stdout
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain"), ("diff", "HEAD", "--binary"))
        )
    except (OSError, subprocess.CalledProcessError):
        return Git(None, None, None)
    return Git(sha.decode().strip(), bool(status.strip()), hashlib.sha256(diff).hexdigest())

"""Who the embedded PostgreSQL runs as. It refuses root, so a caller who is root lends it an unprivileged account."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deploy.errors import StackInvalid

PREFERRED_ACCOUNTS = ("postgres", "nobody")
ACCESS_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Account:
    """An operating system's account, to start a child process as."""

    name: str
    uid: int
    gid: int

    def popen_arguments(self) -> dict[str, Any]:
        """What `subprocess` needs to start a child as this account, without any of the caller's groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def unprivileged_account() -> Account | None:
    """The account to lend to what refuses root; None when the caller is not root, and so needs none.

    Raises StackInvalid when root's machine has neither of the usual two.
    """
    if os.geteuid() != 0:
        return None
    for name in PREFERRED_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise StackInvalid(
        "PostgreSQL does not run as root, and this machine has neither the account 'postgres' nor 'nobody'; "
        "run as another user or set PURSER_DATABASE_URL"
    )


def owner_of(path: Path) -> Account:
    """The account that a file or directory belongs to."""
    status = path.stat()
    return Account(name=name_of(status.st_uid), uid=status.st_uid, gid=status.st_gid)


def name_of(uid: int) -> str:
    """The account's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def allows(*, account: Account, access: Literal["search", "execute"], path: Path) -> bool:
    """Whether the account can search a directory or execute a file, all the way down from the root.

    It is tried as that account, since modes, ACLs and mount options all have a word in it.
    """
    attempt = 'cd -- "$1"' if access == "search" else 'test -x "$1"'
    try:
        outcome = subprocess.run(
            ["/bin/sh", "-c", attempt, "sh", str(path)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ACCESS_TIMEOUT_S,
            check=False,
            **account.popen_arguments(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return outcome.returncode == 0

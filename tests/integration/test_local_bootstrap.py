"""Making the environment from python3 alone: what can be shown without fetching it all again."""

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local import bootstrap

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The part of the repository that the bootstrap reads."""
    for name in ("local/bootstrap.py", "pyproject.toml", "requirements/bootstrap.txt", "requirements/dev.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "local" / "bootstrap", tmp_path / "local" / "bootstrap")
    return tmp_path


def run(copy: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", str(copy / "local" / "bootstrap.py")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_vendored_pip_is_the_pinned_one() -> None:
    assert hashlib.sha256(bootstrap.PIP.read_bytes()).hexdigest() == bootstrap.PIP_SHA256


def test_without_an_index_it_says_so_in_one_sentence_and_leaves_no_stamp(copy: Path) -> None:
    nothing = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    done = run(copy, **nothing)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("bootstrap: uv could not be fetched (")
    assert not (copy / ".venv" / "stamp").exists()


def test_a_tampered_pip_is_not_run(copy: Path) -> None:
    wheel = next((copy / "local" / "bootstrap").glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"x")
    done = run(copy)
    assert done.returncode == 1
    assert "is not the file it should be" in done.stderr


def test_with_nothing_to_do_it_takes_no_time(copy: Path) -> None:
    environment = copy / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    (environment / "pyvenv.cfg").write_text("version = 3\n")
    # As the script of the copy, whose place counts.
    fingerprint = runpy.run_path(str(copy / "local" / "bootstrap.py"))["_fingerprint"]
    (environment / "stamp").write_text(fingerprint())
    began = time.monotonic()
    done = run(copy)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - began < 0.5
    # And it is noticed when there is something to do.
    with (copy / "requirements" / "dev.txt").open("a") as file:
        file.write("# changed\n")
    assert run(copy, PIP_NO_INDEX="1", PIP_FIND_LINKS="", PIP_CONFIG_FILE=os.devnull).returncode == 1


def test_uv_is_given_the_indexes_pip_has_and_only_those_it_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("UV_", "SSL_CERT"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "7")
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    given = bootstrap._uv_environment(
        {
            "index-url": "https://mirror.example/simple",
            "extra-index-url": f"file://{tmp_path}\nfile:///nowhere http://other.example/simple",
            "find-links": f"{tmp_path} /nowhere",
            "cert": "/some/ca.pem",
            "timeout": "99",
        }
    )
    assert given["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert given["UV_INDEX"] == f"file://{tmp_path} http://other.example/simple"
    assert given["UV_FIND_LINKS"] == str(tmp_path)
    assert given["SSL_CERT_FILE"] == "/some/ca.pem"
    assert given["UV_HTTP_TIMEOUT"] == "7"
    assert "VIRTUAL_ENV" not in given

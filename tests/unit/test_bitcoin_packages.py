"""The packages of the development node: each is pinned by its hash, and from nowhere in particular."""

import json
from pathlib import Path

import local.bitcoin_node

FOLDER = Path(local.bitcoin_node.__file__).with_name("bitcoin")


def test_every_package_is_pinned_by_its_hash_and_by_no_address() -> None:
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert "node_modules/bcoin" in packages
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, f"{name}: npm's own configuration says where packages come from"


def test_the_lock_file_is_of_what_is_asked_for() -> None:
    asked = json.loads((FOLDER / "package.json").read_text())
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    assert lock["packages"][""]["dependencies"] == asked["dependencies"] == {"bcoin": "1.0.2"}
    assert lock["packages"]["node_modules/leveldown"]["version"] == asked["overrides"]["leveldown"]

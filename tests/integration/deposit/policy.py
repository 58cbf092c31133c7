"""An asset's policy for one test: written into its chains file, as a deployment would."""

import os
import tomllib
from pathlib import Path
from typing import Any

from chains import registry as readers
from config import assets, settings


def set_policy(name: str, **fields: Any) -> None:
    """Change what the file says of an asset, or of the chain."""
    file = Path(os.environ["CHAINS_FILE"])
    content = tomllib.loads(file.read_text())
    section = "assets" if "/" in name else "chains"
    content[section][name] |= fields
    lines = []
    for kind, rows in content.items():
        for key, row in rows.items():
            lines.append(f'[{kind}."{key}"]')
            lines += [f"{field} = {_toml(value)}" for field, value in row.items()]
    file.write_text("\n".join(lines) + "\n")
    settings.reload()
    assets.reload()
    readers.reload()


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)

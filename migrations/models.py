"""Every module that declares tables, so that Alembic compares the whole schema."""

import importlib
import pkgutil

import domain

MODULES = ("core.jobs", "core.breaks", "core.hot.models", "ledger.models")


def all_models() -> None:
    """Import them. A slice of the domain has its tables in its `models` and its `*_models`, if it has any."""
    for module in MODULES:
        importlib.import_module(module)
    for found in pkgutil.iter_modules(domain.__path__):
        slice_path = importlib.import_module(f"domain.{found.name}").__path__ if found.ispkg else []
        for part in pkgutil.iter_modules(slice_path):
            if part.name == "models" or part.name.endswith("_models"):
                importlib.import_module(f"domain.{found.name}.{part.name}")

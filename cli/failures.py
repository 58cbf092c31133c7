"""What went wrong, as one plain sentence on standard error. Exit status 1; 2 is for wrong usage."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from pydantic import ValidationError
from typer.exceptions import Abort, Exit, TyperException

TRACEBACK = "TALLYRAIL_TRACEBACK"
"""Set, errors are raised as they are: for whoever looks for a fault in this code."""


@contextmanager
def told() -> Iterator[None]:
    """Let no traceback out."""
    try:
        yield
    except (TyperException, Abort, Exit, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        typer.echo(f"tallyrail: {sentence(error)}", err=True)
        raise Exit(1) from None


def sentence(error: Exception) -> str:  # noqa: PLR0911  # a case a kind
    """The error for a person. Says no password: of a setting's value nothing is repeated."""
    if isinstance(error, ValidationError):
        return _of_settings(error)
    # Imported here: whatever raised it has done so already, and nobody else needs to wait for it.
    from alembic.util import CommandError
    from pydantic_settings import SettingsError
    from redis.exceptions import RedisError
    from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

    from core.errors import TallyrailError

    match error:
        case TallyrailError() | CommandError() | SettingsError():
            return str(error)
        case IntegrityError():
            return f"somebody else was quicker, nothing was changed: {_first_line(str(error.orig))}"
        case DBAPIError():
            return _of_database(str(error.orig))
        case SQLAlchemyError():
            return f"the database can't be used: {_first_line(str(error))}"
        case RedisError():
            return f"Redis can't be used: {_first_line(str(error))}"
        case OSError() if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        case OSError() | ValueError():  # a chains file that can't be, in the words of the registry
            return _first_line(str(error))
        case _:
            return f"a fault of ours, {type(error).__name__}: {_first_line(str(error))} (set {TRACEBACK}=1 for more)"


def _of_settings(error: ValidationError) -> str:
    from config import settings

    owner = getattr(settings, error.title, None)
    prefix = "" if owner is None else owner.model_config.get("env_prefix", "")
    missing, wrong = [], []
    for part in error.errors(include_input=False):
        name = f"{prefix}{'.'.join(str(step) for step in part['loc'])}"
        name = name.upper() if owner is not None else name
        if part["type"] == "missing":
            missing.append(name)
        else:
            wrong.append(f"{name}: {part['msg']}")
    told = [f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"] if missing else []
    hint = " (--stack DIR takes the servers of a running `tallyrail up`)" if "DATABASE_URL" in missing else ""
    return "; ".join([*told, *wrong]) + hint


def _of_database(message: str) -> str:
    line = _first_line(message)
    if "does not exist" in line and ("tallyrail_app" in message or "relation" in line or "column" in line):
        return f"the database is not migrated to this version ({line}): run `tallyrail migrate`"
    return f"the database can't be used: {line}"


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0] if message.strip() else "it gave no reason"

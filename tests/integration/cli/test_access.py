"""Tenants and keys: a secret is given once, alone, and works."""

import json
from datetime import timedelta

import pytest
import time_machine

from core import clock, db
from core.ids import new_id
from domain.access import service as access
from domain.access.errors import CredentialError
from domain.access.service import ON_REQUEST, Scope
from tests.integration.cli.conftest import Cli


def principal(secret: str) -> access.Principal:
    access.forget()
    with db.transaction() as session:
        return access.authenticate(session, secret)


def test_a_tenant_is_made_once_and_listed(cli: Cli) -> None:
    assert "There are no tenants." in cli("tenants", "list").stdout
    cli("tenants", "create", "acme", "--name", "Acme Ltd")
    [row] = json.loads(cli("tenants", "list", "--json").stdout)["tenants"]
    assert (row["tenant"], row["name"]) == ("acme", "Acme Ltd")
    assert "Acme Ltd" in cli("tenants", "list").stdout
    again = cli("tenants", "create", "acme", status=1)
    assert again.stderr == "tallyrail: there is a tenant 'acme' already\n"
    assert "can't be a tenant's id" in cli("tenants", "create", "No Word", status=1).stderr


def test_a_new_secret_stands_alone_on_stdout_and_works(cli: Cli) -> None:
    cli("tenants", "create", "acme")
    result = cli("keys", "create", "acme", "--scope", "deposits:read", "--scope", "jobs:read")
    secret = result.stdout.removesuffix("\n")
    assert secret.split() == [secret]
    found = principal(secret)
    assert found.tenant == "acme"
    assert found.scopes == {Scope.DEPOSITS_READ, Scope.JOBS_READ}
    assert secret not in result.stderr
    listed = cli("keys", "list", "acme").stdout
    assert str(found.key_id) in listed
    assert secret not in listed
    assert secret not in cli("keys", "list", "--json").stdout


def test_a_key_made_for_machines_says_its_secret_in_its_document(cli: Cli) -> None:
    cli("tenants", "create", "acme")
    made = json.loads(cli("keys", "create", "acme", "--json").stdout)
    assert str(principal(made["secret"]).key_id) == made["id"]
    assert principal(made["secret"]).scopes == set(Scope) - ON_REQUEST


def test_a_revoked_key_is_refused(cli: Cli) -> None:
    cli("tenants", "create", "acme")
    made = json.loads(cli("keys", "create", "acme", "--json").stdout)
    for _ in range(2):
        assert "is revoked" in cli("keys", "revoke", made["id"]).stderr
    with pytest.raises(CredentialError):
        principal(made["secret"])
    assert "revoked" in cli("keys", "list").stdout


def test_a_key_expires_when_it_was_told_to(cli: Cli) -> None:
    cli("tenants", "create", "acme")
    secret = cli("keys", "create", "acme", "--expires-in", "2h").stdout.strip()
    expires_at = principal(secret).expires_at
    assert expires_at is not None
    assert abs(expires_at - clock.now() - timedelta(hours=2)) < timedelta(seconds=10)


def test_a_rotated_key_works_beside_the_new_one_for_the_overlap(cli: Cli) -> None:
    cli("tenants", "create", "acme")
    old = json.loads(cli("keys", "create", "acme", "--json").stdout)
    result = cli("keys", "rotate", old["id"], "--overlap", "12h")
    new = result.stdout.strip()
    assert "stops working within 12h" in result.stderr
    assert principal(old["secret"]).tenant == principal(new).tenant == "acme"
    with time_machine.travel(clock.now() + timedelta(hours=13)):
        assert principal(new).tenant == "acme"
        with pytest.raises(CredentialError):
            principal(old["secret"])
    assert "has been replaced already" in cli("keys", "rotate", old["id"], status=1).stderr


def test_refusals_are_one_sentence_and_leave_nothing(cli: Cli) -> None:
    assert cli("keys", "create", "nobody", status=1).stderr == "tallyrail: there is no tenant 'nobody'\n"
    unknown = new_id()
    assert cli("keys", "revoke", unknown, status=1).stderr == f"tallyrail: there is no key {unknown}\n"
    cli("tenants", "create", "acme")
    cli("keys", "create", "acme", "--scope", "everything", status=2)
    cli("keys", "create", "acme", "--expires-in", "soon", status=2)
    assert json.loads(cli("keys", "list", "--json").stdout) == {"keys": []}

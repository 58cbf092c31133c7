"""The signer's process: `python -m signer.main`, or `tallyrail signer run`. It reads everything before it listens."""

import resource
import sys

import structlog
import uvicorn
from pydantic import ValidationError

from config import logging as log_config
from signer import keys, policy, settings, signing
from signer.app import Service, create_app
from signer.errors import BootError
from signer.journal import Journal

log = structlog.stdlib.get_logger(__name__)

CONNECTIONS_MAX = 200
"""More are answered 503."""


def serve() -> None:
    """Until it is told to end. Raises BootError, or ValidationError for a setting."""
    # A dump of this process's memory would be a file of keys.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    chosen = settings.signer()
    token = chosen.reveal_token()
    found = signing.wallets(policy.read(chosen.policy), keys.read(chosen.keystore, chosen.reveal_passphrase()))
    journal = Journal(chosen.journal)
    try:
        service = Service(signing.Desk(found, journal), token=token, body_bytes_max=chosen.body_bytes_max)
        log.info("signer.starts", wallets={chain: each.address for chain, each in found.items()})
        uvicorn.run(
            create_app(service),
            host=chosen.host,
            port=chosen.port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=10,
        )
    finally:
        journal.close()


def main() -> int:
    try:
        log_config.configure("signer")
        serve()
    except BootError as error:
        log.error("signer.can_not_start", why=str(error))  # noqa: TRY400  # a sentence says it all
        return 1
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = [f"{error.title}.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in faults]
        log.error("signer.can_not_start", why="; ".join(wrong))  # noqa: TRY400
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

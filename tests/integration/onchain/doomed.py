"""`python -m tests.integration.onchain.doomed [--statements]`: a worker of payouts on chains that is killed."""

import tasks.tx_monitor  # noqa: F401
from tests.support import doomed_worker

if __name__ == "__main__":
    doomed_worker.main()

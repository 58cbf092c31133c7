"""A signer that is killed on the spot, as by the kernel, when a signature is on the disk and its answer hasn't left.

`python -m tests.support.doomed_signer`; any order whose reference begins with `killed` does it.
"""

import os
import sys
from typing import Any

from signer import main, signing


def arm() -> None:
    sign: Any = signing.Desk.sign

    def signed(self: Any, order: Any, *rest: Any, **named: Any) -> Any:
        answer = sign(self, order, *rest, **named)
        if order.reference.startswith("killed"):
            os._exit(9)
        return answer

    signing.Desk.sign = signed  # type: ignore[method-assign]


if __name__ == "__main__":
    arm()
    sys.exit(main.main())

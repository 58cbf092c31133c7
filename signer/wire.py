"""What is asked for, read strictly: whatever is not just so is refused before anybody thinks about money.

`chains.signing` has the format.
"""

import json
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from chains.sending import Order, Terms

VERSIONS_MAX = 1_000
INPUTS_MAX = 1_000
_DIGITS = r"^(0|[1-9][0-9]{0,77})$"


class MalformedError(Exception):
    """It can't be read as a request. The words say where."""


class Request(NamedTuple):
    order: Order
    number: int
    terms: Terms


def _listed(value: object) -> object:
    """Strict as it is, pydantic takes no list for a tuple."""
    return tuple(value) if isinstance(value, list) else value


Digits = Annotated[str, Field(pattern=_DIGITS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Order(_Strict):
    reference: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    chain: Annotated[str, Field(max_length=64)]
    wallet: Annotated[str, Field(max_length=128)]
    asset: Annotated[str, Field(max_length=192)]
    to: Annotated[str, Field(max_length=128)]
    units: Digits
    tag: Annotated[str, Field(max_length=256)] | None


class _Terms(_Strict):
    inputs: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=128)], ...],
        BeforeValidator(_listed),
        Field(max_length=INPUTS_MAX),
    ]
    ends: Digits | None
    fee_max: Digits
    cancels: bool
    fields: dict[str, Any]


class _Body(_Strict):
    order: _Order
    number: Annotated[int, Field(ge=1, le=VERSIONS_MAX)]
    terms: _Terms


def parsed(body: bytes) -> Request:
    """Raises MalformedError."""
    try:
        # No float has a place here: two texts of one number would be two requests.
        content = json.loads(body, parse_float=_refuse, parse_constant=_refuse)
        read = _Body.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the body"
        raise MalformedError(f"{where}: {first['msg']}"[:300]) from None
    except (ValueError, RecursionError):
        raise MalformedError("the body is no JSON that is taken here") from None
    order, terms = read.order, read.terms
    if order.units == "0":
        raise MalformedError("order.units: nobody is paid nothing")
    if len(set(terms.inputs)) != len(terms.inputs):
        raise MalformedError("terms.inputs: one stands there twice")
    return Request(
        Order(
            reference=order.reference,
            chain=order.chain,
            wallet=order.wallet,
            asset=order.asset,
            to=order.to,
            units=int(order.units),
            tag=order.tag,
        ),
        read.number,
        Terms(
            inputs=terms.inputs,
            ends=None if terms.ends is None else int(terms.ends),
            fee_max=int(terms.fee_max),
            cancels=terms.cancels,
            fields=terms.fields,
        ),
    )


def _refuse(word: str) -> Any:
    raise ValueError(word)

"""Bodies of the hot addresses: parsed and checked in one pass, as strictly as everywhere."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from api import problems
from api.body import parsed_object

Shape = TypeVar("Shape", bound=BaseModel)


def checked(shape: type[Shape], body: bytes) -> Shape:
    """Raises Problem: 400 if it isn't JSON, 422 with every field at fault if it isn't of this shape."""
    try:
        made: Shape = shape.__pydantic_validator__.validate_json(body)
    except ValidationError as error:
        parsed_object(body)  # says what is wrong with it, if it isn't even JSON
        raise problems.of_validation(error) from None
    return made

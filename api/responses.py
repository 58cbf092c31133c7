"""Answers, serialised once: FastAPI would validate each a second time on its way out."""

from pydantic import BaseModel
from starlette.responses import Response

JSON = "application/json"


def json_response(body: BaseModel, *, status: int = 200) -> Response:
    return Response(body.__pydantic_serializer__.to_json(body), status, media_type=JSON)

"""Pictures and form fields out of a request's body, raw or multipart."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from services.detector.dataplane.problems import EmptyPicture
from shared.core.problems import BadRequest, PayloadTooLarge, UnprocessableContent, UnsupportedMediaType

F = TypeVar("F", bound=BaseModel)

# Of a form, whatever they are: beyond any sensible setting, and cheap enough to count.
_MAX_PARTS = 1000


class TooManyPictures(PayloadTooLarge):
    code, title = "too_many_images", "Too many pictures in one request"


class WrongForm(UnprocessableContent):
    code, title = "wrong_form", "Wrong form fields"


class NoForm(UnsupportedMediaType):
    code, title = "not_multipart", "Not a multipart form"


@dataclass(frozen=True, slots=True)
class PictureForm(Generic[F]):
    """What a request holds: encoded pictures, and the fields stated in its query or its form."""

    pictures: list[bytes]
    fields: F


async def read_picture(request: Request, query: F) -> PictureForm[F]:
    """Return the one picture of a request: its whole body, or the form's file `image`."""
    refuse_repeated(request)
    if not _is_form(request):
        return PictureForm([await request.body()], query)
    return await _read_form(request, query, field="image", max_pictures=1)


async def read_pictures(request: Request, query: F, max_pictures: int) -> PictureForm[F]:
    """Return the pictures of a form, its files `images`, in their order."""
    refuse_repeated(request)
    if not _is_form(request):
        raise NoForm(
            f"Content-Type {request.headers.get('content-type', '')!r} cannot hold several pictures; "
            "send multipart/form-data with one file field `images` for each"
        )
    return await _read_form(request, query, field="images", max_pictures=max_pictures)


def refuse_repeated(request: Request) -> None:
    """Raise WrongForm for a field that the query states twice, of which the framework would take the last."""
    if not request.scope["query_string"]:
        return
    names = [name for name, _ in request.query_params.multi_items()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise WrongForm(f"{', '.join(twice)} stands in the query more than once; state it once")


def _is_form(request: Request) -> bool:
    content_type = request.headers.get("content-type", "")
    return content_type.split(";", 1)[0].strip().lower() == "multipart/form-data"


async def _read_form(request: Request, query: F, *, field: str, max_pictures: int) -> PictureForm[F]:
    try:
        pictures, stated = await _read_fields(request, field, type(query))
    except UnicodeError as error:
        raise BadRequest(f"the form's text cannot be read in the charset it states: {error}") from error
    if not pictures:
        raise EmptyPicture(f"the form has no file field {field!r}")
    if len(pictures) > max_pictures:
        raise TooManyPictures(
            f"the form has more than {max_pictures} picture{'s' if max_pictures > 1 else ''}; "
            f"send {'fewer at a time' if max_pictures > 1 else f'several to {_batch_path(request)}'}",
            limit=max_pictures,
        )
    return PictureForm(pictures, _with_form(query, stated))


def _batch_path(request: Request) -> str:
    return f"…/{request.scope['path'].rpartition('/')[2]}/batch"


async def _read_fields(
    request: Request, field: str, fields: type[BaseModel]
) -> tuple[list[bytes], dict[str, str]]:
    """Return the files called `field` and the other fields of a form; raises WrongForm for anything else."""
    pictures: list[bytes] = []
    stated: dict[str, str] = {}
    async with request.form(max_files=_MAX_PARTS, max_fields=_MAX_PARTS) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name == field:
                pictures.append(await value.read())
            elif isinstance(value, str) and name in fields.model_fields and name not in stated:
                stated[name] = value
            elif name == field:
                raise WrongForm(f"the form field {field!r} is text, not a file; with curl: -F {field}=@FILE")
            else:
                raise WrongForm(
                    f"the form field {name!r} does not belong; send the file field {field!r} and, each once "
                    f"and as text, {', '.join(fields.model_fields)}"
                )
    return pictures, stated


def _with_form(query: F, form: dict[str, str]) -> F:
    """Return the fields of query and form; raises RequestValidationError for one out of its range."""
    if not form:
        return query
    asked = query.model_dump(exclude_none=True)
    if twice := sorted(asked.keys() & form.keys()):
        raise WrongForm(f"{', '.join(twice)} stands in the query and in the form; state it once")
    try:
        return type(query).model_validate(asked | form)
    except ValidationError as error:
        raise RequestValidationError(
            [{**item, "loc": ("form", *item["loc"])} for item in error.errors(include_context=False)]
        ) from error

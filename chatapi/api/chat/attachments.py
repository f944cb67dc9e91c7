"""Images and files that go with a message of the seed's dialect: passed on, never fetched, never opened here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from chatapi.api.http.request_body import Body, Text
from chatapi.model import Kind, Media, Part

MOST_ATTACHMENTS = 16  # of one message
MOST_URL_CHARACTERS = 8192  # of one that is not a data URL
MOST_NAME_CHARACTERS = 255
HEAD_CHARACTERS = 256  # of a data URL, within which its data begin


def _is_image_url(url: str) -> str:
    if url[:6].lower().startswith("data:"):
        return _has_data(url, "data:image/")
    if not url[:8].lower().startswith(("https://", "http://")) or len(url) > MOST_URL_CHARACTERS:
        raise ValueError(f"must be a data URL of an image, or a https URL of at most {MOST_URL_CHARACTERS} characters")
    return url


def _is_data_url(url: str) -> str:
    return _has_data(url, "data:")


def _has_data(url: str, kind: str) -> str:
    """A data URL of this kind. Only its head is looked at: whether the rest is what it says, the upstream finds out."""
    head, comma, _ = url[:HEAD_CHARACTERS].partition(",")
    if not head.lower().startswith(kind) or not head.lower().endswith(";base64") or not comma or not url.isascii():
        raise ValueError(f"must begin with {kind}…;base64, and go on in base64")
    if len(url) == len(head) + 1:
        raise ValueError("has no data")
    return url


class ImageAttachment(Body):
    """An image."""

    type: Literal["image"]
    url: Annotated[Text, AfterValidator(_is_image_url)]
    detail: str | None = Field(None, pattern="^[a-z]{1,16}$")

    def part(self) -> Part:
        """It, as a part of a message."""
        return Part(Kind.IMAGE, media=Media(url=self.url, detail=self.detail))


class FileAttachment(Body):
    """A file."""

    type: Literal["file"]
    filename: Text = Field(min_length=1, max_length=MOST_NAME_CHARACTERS)
    data: Annotated[Text, AfterValidator(_is_data_url)]

    def part(self) -> Part:
        """It, as a part of a message."""
        return Part(Kind.FILE, media=Media(data=self.data, filename=self.filename))


Attachment = Annotated[ImageAttachment | FileAttachment, Field(discriminator="type")]


def may_have_attachments(data: bytes) -> bool:
    """Whether a body may have some, before it is parsed."""
    return b'"attachments"' in data

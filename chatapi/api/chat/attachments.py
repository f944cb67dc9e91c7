"""Images and files attached to a message of `/api/chat`: sent upstream, never fetched and never opened here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from chatapi.api.http.request_body import Body, Text
from chatapi.model import Kind, Media, Part

MAX_ATTACHMENTS = 16  # of one message
MAX_URL_CHARACTERS = 8192  # of one that is not a data URL
MAX_NAME_CHARACTERS = 255
HEAD_CHARACTERS = 256  # of a data URL: its data must begin within them


def _is_image_url(url: str) -> str:
    if url[:6].lower().startswith("data:"):
        return _has_data(url, "data:image/")
    if not url[:8].lower().startswith(("https://", "http://")) or len(url) > MAX_URL_CHARACTERS:
        raise ValueError(f"must be a data URL of an image, or a https URL of at most {MAX_URL_CHARACTERS} characters")
    return url


def _is_data_url(url: str) -> str:
    return _has_data(url, "data:")


def _has_data(url: str, kind: str) -> str:
    """Return a data URL of this kind. Only its head is checked; the upstream decodes the rest."""
    head, comma, _ = url[:HEAD_CHARACTERS].partition(",")
    if not head.lower().startswith(kind) or not head.lower().endswith(";base64") or not comma or not url.isascii():
        raise ValueError(f"must begin with {kind}…;base64, followed by base64")
    if len(url) == len(head) + 1:
        raise ValueError("has no data")
    return url


class ImageAttachment(Body):
    """An image."""

    type: Literal["image"]
    url: Annotated[Text, AfterValidator(_is_image_url)]
    detail: str | None = Field(None, pattern="^[a-z]{1,16}$")

    def part(self) -> Part:
        """Return it as a part of a message."""
        return Part(Kind.IMAGE, media=Media(url=self.url, detail=self.detail))


class FileAttachment(Body):
    """A file."""

    type: Literal["file"]
    filename: Text = Field(min_length=1, max_length=MAX_NAME_CHARACTERS)
    data: Annotated[Text, AfterValidator(_is_data_url)]

    def part(self) -> Part:
        """Return it as a part of a message."""
        return Part(Kind.FILE, media=Media(data=self.data, filename=self.filename))


Attachment = Annotated[ImageAttachment | FileAttachment, Field(discriminator="type")]

"""Pydantic's messages in the words of this service: a requirement, never the value that does not meet it."""

from __future__ import annotations

import re

_BY_KIND = {  # pydantic's own sentences for these name types of Python, and parsers
    "string_type": "must be a string",
    "is_instance_of": "must be a string",  # of `request_body.KeyField`, whose strings the parser has replaced
    "string_unicode": "must be a string without unpaired surrogates",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing": "must be an integer",
    "int_parsing_size": "must be an integer of fewer digits",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object with names and values",
    "model_type": "must be an object with names and values",
    "model_attributes_type": "must be an object with names and values",
}
_SUBJECT = re.compile(r"^(?:Input|String|List|Dictionary|Value) should ")


def requirement(kind: str, message: str) -> str:
    """Return an error of pydantic as a clause without a subject and a full stop, such as "must be a string".

    A message of our own validators is returned as it is.

    Args:
        kind: the `type` of the error.
        message: its `msg`.
    """
    if (known := _BY_KIND.get(kind)) is not None:
        return known
    message = message.removeprefix("Value error, ").partition(" after validation, not ")[0]
    if message.startswith("Value "):  # of a string that a function checks before its length: `request_body.Text`
        message = message.replace(" item", " character")
    return _SUBJECT.sub("must ", message).replace("must match pattern", "must match the pattern")

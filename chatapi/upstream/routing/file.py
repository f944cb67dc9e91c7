"""Read the file of upstreams. A mistake in it is one sentence with the file, the line and the remedy, and no value."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from pydantic import ValidationError

from chatapi.auth.credentials import AUTHORIZATION
from chatapi.auth.keys import Key
from chatapi.environment import MAX_SECRET_BYTES, read_variable
from chatapi.http_client.endpoint import encode_headers
from chatapi.settings import Settings, SettingsError
from chatapi.upstream.routing.entries import File, ModelEntry, Table, UpstreamEntry
from chatapi.upstream.routing.lines import find_line
from chatapi.upstream.routing.routes import Callers, ListedUpstream, Route, RouteTable, Target, digest
from chatapi.wire.validation import requirement

MAX_BYTES = 256 * 1024
MAX_CALLERS_BYTES = 1024 * 1024
SHORTEST_KEY = 8  # a shorter one cannot be hidden without hiding words
SHA256 = "sha256:"
_INLINE_KEYS = frozenset({"api_key", "apikey", "api-key", "token", "secret", "authorization", "bearer", "password"})
_PORTS = {"http": 80, "https": 443}
_TABLES: dict[str, type[Table]] = {"upstreams": UpstreamEntry, "models": ModelEntry}


def read_upstreams(path: Path, settings: Settings) -> RouteTable:
    """Read the file, and the keys that it names.

    Raises:
        SettingsError: it cannot be read, or something in it is wrong.
    """
    text = _read_text(path)
    try:
        value = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason, line = _syntax_error(str(error), text)
        raise SettingsError(f"CHATAPI_UPSTREAMS: {path}, line {line}: it is not TOML: {reason}.") from None
    reader = _Reader(path, text, settings)
    try:
        file = File.model_validate(value)
    except ValidationError as error:
        reader.refuse_invalid(error)
    return reader.read(file)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise SettingsError(f"CHATAPI_UPSTREAMS: the file {path} cannot be read: {reason}.") from error
    if len(data) > MAX_BYTES:
        raise SettingsError(f"CHATAPI_UPSTREAMS: the file {path} must have at most {MAX_BYTES} bytes.")
    return text


def _syntax_error(message: str, text: str) -> tuple[str, int]:
    """Return the reason and the line of an error of `tomllib`, whose message may quote a name but no value."""
    found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    if found is None:
        return "it nests too deep", 1
    line = int(found[1]) if found[1] else max(1, len(text.splitlines()))
    reason = message[: found.start()]
    return reason[:1].lower() + reason[1:], line


class _Reader:
    """The file, for the lines in messages, and the folder in which it names others."""

    def __init__(self, path: Path, text: str, settings: Settings) -> None:
        self._path, self._text, self._settings = path, text, settings

    def refuse(self, where: tuple[str, ...], sentence: str) -> NoReturn:
        """Raise the error for a key of the file."""
        line = find_line(self._text, where) or 1
        raise SettingsError(f"CHATAPI_UPSTREAMS: {self._path}, line {line}: {sentence}")

    def refuse_invalid(self, error: ValidationError) -> NoReturn:
        """Raise the error for the first value that is wrong for itself."""
        found = []
        for detail in error.errors(include_input=False, include_url=False):
            where = tuple(part for part in detail["loc"] if isinstance(part, str) and part != "[key]")
            where_is_name = detail["loc"][-1:] == ("[key]",)
            found.append((find_line(self._text, where) or 1, where, detail["type"], detail["msg"], where_is_name))
        _, where, kind, message, is_name = min(found, key=lambda one: one[0])
        self.refuse(where, _sentence(where, kind, message, is_name=is_name))

    def read(self, file: File) -> RouteTable:
        """Return the routes, if everything that the file names exists."""
        upstreams = {name: self._upstream(name, entry) for name, entry in file.upstreams.items()}
        self._check_prefixes(file)
        self._check_callers_key(upstreams)
        default = file.default_upstream
        if default is None and len(upstreams) == 1 and not file.models:
            default = next(iter(upstreams))
        for key, name in (("default_upstream", default), ("passthrough_upstream", file.passthrough_upstream)):
            if name is not None:
                self._require_upstream(file, name, (key,))
        aliases = self._aliases(file)
        equal = {name: self._targets(file, name, model) for name, model in file.models.items()}
        routes = {name: Route(equal[name], self._fallback(file, name, equal)) for name in file.models}
        shown = tuple(name for name, model in file.models.items() if model.listed)
        callers = self._callers(file, upstreams)
        table = RouteTable(upstreams, routes, aliases, shown, default, file.passthrough_upstream or default, callers)
        if default is None and not file.models and not any(entry.prefix for entry in file.upstreams.values()):
            self.refuse(("upstreams",), "no model leads to these upstreams. Set default_upstream, or list models.")
        if table.find(self._settings.default_model) is None:
            raise SettingsError(
                f"CHATAPI_DEFAULT_MODEL: no upstream of {self._path} has this model. {table.describe_models()} "
                "Choose one of them."
            )
        return table

    # Upstreams

    def _upstream(self, name: str, entry: UpstreamEntry) -> ListedUpstream:
        where = ("upstreams", name)
        named = [one for one in ("key", "key_env", "key_file") if getattr(entry, one) is not None]
        if len(named) > 1:
            self.refuse((*where, named[1]), f"{' and '.join(named)} exclude each other. Keep one of them.")
        self._settings.proxy_for(entry.base_url)
        takes_callers = not named or entry.key == "caller"
        return ListedUpstream(name, entry, self._own_key(where, entry), takes_callers)

    def _own_key(self, where: tuple[str, ...], entry: UpstreamEntry) -> Key | None:
        if entry.key_env is not None:
            where, source = (*where, "key_env"), f"the variable {entry.key_env}"
            value = read_variable(entry.key_env)
            if value is None:
                self.refuse(where, f"{source} is not set. Set it to the key of this upstream.")
        elif entry.key_file is not None:
            where, source = (*where, "key_file"), f"the file {entry.key_file}"
            value = self._read_beside(where, entry.key_file, MAX_SECRET_BYTES)
        else:
            return None
        value = value.strip()
        if len(value) < SHORTEST_KEY or not value.isascii() or not value.isprintable() or " " in value:
            self.refuse(where, f"{source} must have one key, of {SHORTEST_KEY} or more printable characters.")
        encode_headers([(AUTHORIZATION, value)])
        return Key(value)

    def _read_beside(self, where: tuple[str, ...], name: str, most_bytes: int) -> str:
        """Return the text of a file that the file names, relative to its folder."""
        try:
            with (self._path.parent / name).open("rb") as file:
                data = file.read(most_bytes + 1)
            text = data.decode()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            self.refuse(where, f"the file {name} cannot be read: {reason}.")
        if len(data) > most_bytes:
            self.refuse(where, f"the file {name} must have at most {most_bytes} bytes.")
        return text

    def _check_prefixes(self, file: File) -> None:
        seen: dict[str, str] = {}
        for name, entry in file.upstreams.items():
            if entry.prefix is not None and (other := seen.setdefault(entry.prefix, name)) != name:
                self.refuse(("upstreams", name, "prefix"), f"prefix is that of the upstream {other} too.")

    def _check_callers_key(self, upstreams: dict[str, ListedUpstream]) -> None:
        """Refuse a file by which a caller's key would reach two parties: it was meant for one of them."""
        first: ListedUpstream | None = None
        for one in upstreams.values():
            if not one.takes_callers_key:
                continue
            first = first or one
            if _origin(one.entry.base_url) != _origin(first.entry.base_url):
                self.refuse(
                    ("upstreams", one.name),
                    f"the upstream {one.name} would get the callers' keys, which are meant for {first.name} at another "
                    'address. Give it key_env, key_file or key = "none".',
                )

    def _callers(self, file: File, upstreams: dict[str, ListedUpstream]) -> Callers:
        if file.callers_file is None:
            own = next((one.name for one in upstreams.values() if one.key is not None), None)
            if file.callers is None and own is not None:
                self.refuse(
                    ("upstreams", own),
                    f"the upstream {own} has a key of its own. Say who may spend it, at the beginning of the file: "
                    'callers_file = "PATH", or callers = "anyone".',
                )
            return Callers()
        where = ("callers_file",)
        if file.callers is not None:
            self.refuse(where, "callers and callers_file exclude each other. Keep one of them.")
        lines = self._read_beside(where, file.callers_file, MAX_CALLERS_BYTES).splitlines()
        keys = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        if not keys:
            self.refuse(where, f"the file {file.callers_file} must list at least one key, one in each line.")
        try:
            return Callers(frozenset(map(_caller_digest, keys)))
        except ValueError:
            self.refuse(where, f"in the file {file.callers_file}, {SHA256} must be followed by 64 hexadecimal digits.")

    # Models

    def _require_upstream(self, file: File, name: str, where: tuple[str, ...]) -> None:
        if name not in file.upstreams:
            self.refuse(where, f"{where[-1]}: there is no such upstream. {_advice(name, list(file.upstreams))}")

    def _targets(self, file: File, name: str, model: ModelEntry) -> tuple[Target, ...]:
        for upstream in model.upstream:
            self._require_upstream(file, upstream, ("models", name, "upstream"))
        return tuple(Target(upstream, model.model or name) for upstream in dict.fromkeys(model.upstream))

    def _fallback(self, file: File, name: str, equal: dict[str, tuple[Target, ...]]) -> tuple[Target, ...]:
        targets: dict[Target, None] = {}
        for other in file.models[name].fallback:
            if other not in equal:
                where = ("models", name, "fallback")
                self.refuse(where, f"fallback: there is no such model. {_advice(other, list(equal))}")
            targets |= dict.fromkeys(equal[other])
        return tuple(target for target in targets if target not in equal[name])

    def _aliases(self, file: File) -> dict[str, str]:
        aliases: dict[str, str] = {}
        for name, model in file.models.items():
            for alias in model.aliases:
                if alias in file.models or aliases.setdefault(alias, name) != name:
                    self.refuse(("models", name, "aliases"), "aliases: one of them is the name of another model too.")
        return aliases


def _caller_digest(line: str) -> bytes:
    if not line.startswith(SHA256):
        return digest(line)
    value = bytes.fromhex(line.removeprefix(SHA256))
    if len(value) != 32:
        raise ValueError
    return value


def _origin(base_url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(base_url)
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def _advice(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"Did you mean {close[0]}?" if close else f"There are: {', '.join(known[:20])}."


def _sentence(where: tuple[str, ...], kind: str, message: str, *, is_name: bool) -> str:
    name = where[-1] if where else "the file"
    if kind == "missing":
        return f"{name} is missing."
    if kind == "extra_forbidden":
        if name.lower() in _INLINE_KEYS:
            return f"{name} is not a key of this table. A secret is never in this file: use key_env or key_file."
        table = _TABLES[where[0]] if len(where) > 1 and where[0] in _TABLES else File
        return f"{name} is not a key of this table. {_advice(name, list(table.model_fields))}"
    return f"{'the name ' if is_name else ''}{name}: {requirement(kind, message)}."

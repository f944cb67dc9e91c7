"""The file of upstreams: the mistakes that it can have, and the routes that it describes (docs/routing.md)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from chatapi.auth.credentials import Credential
from chatapi.auth.keys import Key
from chatapi.errors import UpstreamModelNotFound
from chatapi.metrics import Metrics
from chatapi.settings import Settings, SettingsError
from chatapi.upstream.routing.file import read_upstreams
from chatapi.upstream.routing.members import make_router
from chatapi.upstream.routing.routes import RouteTable, Target
from tests.server_process import KEY, OTHER_KEY, SECRETS, run_command

OWN_KEY = "own-key-of-the-tests-of-the-file"
SECRETS.append(OWN_KEY)
ONE = '[upstreams.one]\nbase_url = "https://one.example/v1"\n'
TWO = '[upstreams.two]\nbase_url = "https://two.example/v1"\nkey = "none"\n'
OWN = '[upstreams.own]\nbase_url = "https://own.example/v1"\nkey_file = "own.key"\n'


def read(folder: Path, text: str, default_model: str = "gpt-4.1-mini") -> RouteTable:
    path = folder / "upstreams.toml"
    path.write_text(text)
    (folder / "own.key").write_text(OWN_KEY)
    (folder / "callers").write_text(f"{KEY}\n")
    return read_upstreams(path, Settings(default_model=default_model))


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("a = [", 1, "it is not TOML"),
        (f"{ONE}\n\nbase_url = ", 5, "it is not TOML: invalid value"),
        (f"{ONE}base_url = 'x'", 3, "it is not TOML: cannot overwrite a value"),
        ("", 1, "upstreams is missing."),
        (
            f"default_upstrem = 'one'\n{ONE}",
            1,
            "default_upstrem is not a key of this table. Did you mean default_upstream?",
        ),
        (f"{ONE}\n# why\nbase_ulr = 'x'", 5, "base_ulr is not a key of this table. Did you mean base_url?"),
        (f'{ONE}api_key = "{OWN_KEY}"', 3, "A secret is never in this file: use key_env or key_file."),
        (f'{ONE}key = "{OWN_KEY}"', 3, "key: must be 'caller' or 'none'."),
        (
            f"{ONE}[models.a]\nupstream = 'one'\nmodelx = 'b'",
            5,
            "modelx is not a key of this table. Did you mean model?",
        ),
        ("[upstreams.a]\napi = 'chat'", 1, "base_url is missing."),
        ("[upstreams.a]\nbase_url = 'ftp://a'", 2, "base_url: must be a http or https URL."),
        (f"{ONE}api = 'completions'", 3, "api: must be 'auto', 'chat' or 'responses'."),
        (f"{ONE}weight = '1'", 3, "weight: must be an integer."),
        (f"{ONE}headers = {{ X-A = '1', Authorization = 'x' }}", 3, "must not have Authorization"),
        (f'{ONE}headers = {{ X-A = "a\\nb" }}', 3, "the header 'X-A' is not valid HTTP."),
        (f"{ONE}rejected_fields = [\n 'seed',\n 'messages',\n]\nweight = 1", 3, "must not have messages"),
        (f"{ONE}[upstreams.'Two words']\nbase_url = 'http://a'", 3, "the name Two words"),
        (f"{ONE}[models.a]\nupstream = 'onne'", 4, "upstream: there is no such upstream. Did you mean one?"),
        (f"{ONE}[models.a]\nupstream = 'one'\nfallback = ['zzz']\n[models.b]\nupstream='one'", 5, "There are: a, b."),
        (
            f"{ONE}[models.a]\nupstream = 'one'\n[models.b]\nupstream='one'\naliases = ['a']",
            7,
            "the name of another model",
        ),
        (f"default_upstream = 'x'\n{ONE}", 1, "default_upstream: there is no such upstream. There are: one."),
        (f"{ONE}key_env = 'A'\nkey_file = 'b'", 4, "key_env and key_file exclude each other."),
        (f"{ONE}key_env = 'NOT_SET_ANYWHERE'", 3, "the variable NOT_SET_ANYWHERE is not set."),
        (f"{ONE}key_file = 'missing'", 3, "the file missing cannot be read: No such file or directory."),
        (OWN, 1, "the upstream own has a key of its own. Say who may spend it"),
        (f"callers = 'anyone'\ncallers_file = 'callers'\n{OWN}", 2, "callers and callers_file exclude each other."),
        (f"callers_file = 'missing'\n{OWN}", 1, "the file missing cannot be read"),
        (f"{ONE}{TWO}", 1, "no model leads to these upstreams. Set default_upstream, or list models."),
        (f"{ONE}prefix = 'a/'\n{TWO}prefix = 'a/'", 7, "prefix is that of the upstream one too."),
        (
            f"{ONE}prefix = 'a/'\n[upstreams.other]\nbase_url = 'https://other.example/v1'",
            4,
            "the upstream other would get the callers' keys, which are meant for one at another address.",
        ),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(tmp_path: Path, text: str, line: int, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, text)
    message = str(refused.value)
    assert message.startswith(f"CHATAPI_UPSTREAMS: {tmp_path}/upstreams.toml, line {line}: "), message
    assert sentence in message
    assert message.count("\n") == 0
    assert OWN_KEY not in message


def test_a_long_array_does_not_delay_the_message(tmp_path: Path) -> None:
    fields = "\n".join(f"'field{number}'," for number in range(5000))
    with pytest.raises(SettingsError, match=r"line 3: rejected_fields: must have at most 100 items\.$"):
        read(tmp_path, f"{ONE}rejected_fields = [\n{fields}\n]")


def test_the_default_model_needs_an_upstream(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^CHATAPI_DEFAULT_MODEL: no upstream of .* It has: a\. Choose"):
        read(tmp_path, f"{ONE}[models.a]\nupstream = 'one'")


@pytest.mark.parametrize("command", [("serve",), ("doctor",)])
def test_a_wrong_file_ends_the_command_with_status_2(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "upstreams.toml").write_text(f"{ONE}base_ulr = 'x'")
    ended = run_command(*command, cwd=tmp_path, settings={"CHATAPI_UPSTREAMS": "upstreams.toml", "PORT": "0"})
    assert ended.returncode == 2
    assert (
        "upstreams.toml, line 3: base_ulr is not a key of this table. Did you mean base_url?"
        in ended.stderr + ended.stdout
    )


ROUTES = f"""
callers = "anyone"
default_upstream = "one"
{ONE}
{TWO}
prefix = "two/"
{OWN}
prefix = "two/own/"
[models."gpt"]
upstream = ["own", "two"]
model = "gpt-there"
aliases = ["default"]
fallback = ["spare", "gpt"]
[models.spare]
upstream = "one"
"""


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        ("gpt", {Target("own", "gpt-there"), Target("two", "gpt-there"), Target("one", "spare")}),
        ("default", {Target("own", "gpt-there"), Target("two", "gpt-there"), Target("one", "spare")}),
        ("spare", {Target("one", "spare")}),
        ("two/llama", {Target("two", "llama")}),
        ("two/own/llama", {Target("own", "llama")}),
        ("anything", {Target("one", "anything")}),
    ],
)
def test_a_model_leads_to_its_upstreams(tmp_path: Path, model: str, targets: set[Target]) -> None:
    table = read(tmp_path, ROUTES)
    ordered = table.order(table.require(model, Credential(Key(KEY))), None)
    assert set(ordered) == targets
    assert len(ordered) == len(targets)
    assert ordered[-1] == Target("one", "spare") or len(ordered) == 1
    assert table.find("two/") is None


@pytest.mark.parametrize("rest", ["../files", "./x", "a/../../files", "/x", "x/"])
async def test_a_name_without_its_prefix_leads_to_no_other_path(tmp_path: Path, rest: str) -> None:
    text = (
        'callers = "anyone"\n[upstreams.own]\nbase_url = "http://127.0.0.1:9/v1"\nkey_file = "own.key"\nprefix = "own-"'
    )
    settings = Settings(default_model="own-a")
    router = make_router(read(tmp_path, text, "own-a"), settings, Metrics())
    with pytest.raises(UpstreamModelNotFound):
        await router.models(Credential(Key(KEY)), 1000, 1.0, f"own-{rest}")


def test_equal_upstreams_share_conversations_by_weight_and_keep_them(tmp_path: Path) -> None:
    table = read(tmp_path, ROUTES.replace('prefix = "two/"', 'prefix = "two/"\nweight = 4'))
    route = table.require("gpt", Credential(Key(KEY)))
    first = Counter(table.order(route, b"%d" % number)[0].upstream for number in range(2000))
    assert 1500 < first["two"] < 1700  # 4 of 5
    assert len({tuple(table.order(route, b"one conversation")) for _ in range(20)}) == 1


@pytest.mark.parametrize(
    ("who", "key", "sent"),
    [
        ("callers = 'anyone'", KEY, (KEY, None, OWN_KEY)),
        ("callers_file = 'callers'", KEY, (KEY, None, OWN_KEY)),
        ("callers_file = 'callers'", OTHER_KEY, (OTHER_KEY, "refused", "refused")),
    ],
)
def test_which_key_reaches_which_upstream(
    tmp_path: Path, who: str, key: str, sent: tuple[str | None, str | None, str | None]
) -> None:
    table = read(tmp_path, ROUTES.replace('callers = "anyone"', who))
    for name, expected in zip(("one", "two", "own"), sent, strict=True):
        credential = table.credential_for(table.upstreams[name], Credential(Key(key)))
        if expected == "refused":
            assert credential is None
            continue
        assert credential is not None
        assert credential.headers() == ((("Authorization", f"Bearer {expected}"),) if expected else ())
        assert key not in credential.hide(f"{key} {OWN_KEY}")
        assert credential.verifies_caller is (name == "one" or who != "callers = 'anyone'")

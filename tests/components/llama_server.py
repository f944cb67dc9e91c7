"""llama.cpp with a tiny model, in an environment of its own. Prints its address, and serves until its input ends.

The model is a chain: each token leads to one other token. Its template selects the first token, and with it the answer,
by the words of the last message.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

CONTEXT_TOKENS = 512
TEMPLATE = """\
{% if tools %}tools:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}{% endif %}\
{% for message in messages %}{{ message.role }}: \
{% if message.role == 'tool' %}<tool_response>
{{ message.content }}
</tool_response>{% else %}{{ message.content or '' }}{% endif %}\
{% for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}
{% endfor %}\
{% if add_generation_prompt %}{% set said = messages[-1].content | string %}\
{% if 'ever' in said %}<|endless|>{% elif 'rain' in said %}<|rainy|>\
{% elif tools and 'weather' in said %}<|calling|>{% else %}<|greeting|>{% endif %}{% endif %}"""
# The answers: the tokens after each first one. The last leads to the end, or to the first of its own.
CHAINS = {
    "<|greeting|>": ["Hello", "▁there", ",", "▁dear", "▁reader", "."],
    "<|rainy|>": ["Take", "▁an", "▁umbrella", "!"],
    "<|calling|>": [
        "<tool_call>\n",
        '{"name":▁"weather",▁"arguments":▁',
        '{"city":▁',
        '"Rome"',
        "}}",
        "\n</tool_call>",
    ],
    "<|endless|>": ["one", "▁two", "▁three", "▁four"],
}
ENDLESS = "<|endless|>"
WIDTH, HEADS, LAYERS, HIDDEN = 512, 8, 2, 512  # one dimension for each token


def vocabulary() -> list[tuple[str, gguf.TokenType]]:
    """Return the tokens: controls, all bytes, all printable characters, and the words of the answers."""
    tokens = [("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL), ("</s>", gguf.TokenType.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256)]
    tokens += [(first, gguf.TokenType.CONTROL) for first in CHAINS]
    words = [*map(chr, range(33, 127)), "▁", *(word for chain in CHAINS.values() for word in chain)]
    return tokens + [(word, gguf.TokenType.NORMAL) for word in dict.fromkeys(words)]


def write_model(path: Path) -> None:
    """Write the model: no attention and no hidden layer adds anything, so the output depends on the last token."""
    tokens = vocabulary()
    place = {text: number for number, (text, _) in enumerate(tokens)}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_token_scores([-1.0 if kind == gguf.TokenType.NORMAL else 0.0 for _, kind in tokens])
    writer.add_bos_token_id(place["<s>"])
    writer.add_eos_token_id(place["</s>"])
    writer.add_unk_token_id(place["<unk>"])
    writer.add_chat_template(TEMPLATE)
    embedding = np.eye(len(tokens), WIDTH, dtype=np.float32)
    output = np.zeros((len(tokens), WIDTH), np.float32)
    for first, chain in CHAINS.items():
        for before, after in zip([first, *chain], [*chain, chain[0] if first == ENDLESS else "</s>"], strict=True):
            output[place[after], place[before]] = 1.0
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(WIDTH, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.zeros((WIDTH, WIDTH), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(folder: str) -> None:
    """Serve the model on a free port."""
    path = Path(folder) / "chain.gguf"
    write_model(path)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.model_alias = {"chain"}
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = 1
    parameters.use_jinja = True  # without it, tools are ignored
    parameters.sampling.temp = 0.0
    parameters.port = 0
    parameters.cpuparams.n_threads = 1
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])

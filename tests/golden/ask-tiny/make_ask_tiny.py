#!/usr/bin/env python3
"""Makes the tiny LLaMA checkpoint of this folder: make_ask_tiny.py DIR. Needs nothing but Python 3."""
import json, os, random, struct, sys

D, D_FF, HEADS, KV_HEADS, LAYERS = 64, 48, 4, 2, 2
BYTES = [b for b in range(256) if chr(b).isprintable() and b != 32 and b != 0xAD]  # as GPT-2 spells them
SPELLING = {b: chr(b) for b in BYTES}
SPELLING.update({b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in SPELLING)})
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [SPELLING[b] for b in range(256)] + SPECIAL
# What follows what: the answer to everything. The last three characters take two, four and one byte.
ANSWER = [ord(c) for c in "abcdefghijklmnopqrstuvwxyz"] + list("é😀.".encode()) + [TOKENS.index("<|im_end|>")]
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def bf16(values):
    return b"".join(struct.pack("<f", v)[2:] for v in values)


def matrix(rng, rows, columns, scale):
    return [[rng.gauss(0, scale) for _ in range(columns)] for _ in range(rows)]


def weights():
    rng = random.Random(7)
    signs = lambda: [rng.choice((-1.0, 1.0)) for _ in range(D)]
    other = signs()  # of every token that the answer has not got
    embedding = [other] * len(TOKENS)
    head = matrix(rng, len(TOKENS), D, 0.05)
    before = other
    for token in ANSWER:
        head[token] = before
        before = signs()
        embedding[token] = before
    head[SPECIAL.index("<|endoftext|>") + 256] = [-x for x in other]
    tensors = {"model.embed_tokens.weight": embedding, "lm_head.weight": head, "model.norm.weight": [[1.0] * D]}
    d_kv = D // HEADS * KV_HEADS
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        for name, rows, columns, scale in (
            ("self_attn.q_proj", D, D, 0.1), ("self_attn.k_proj", d_kv, D, 0.1), ("self_attn.v_proj", d_kv, D, 0.02),
            ("self_attn.o_proj", D, D, 0.02), ("mlp.gate_proj", D_FF, D, 0.05), ("mlp.up_proj", D_FF, D, 0.05),
            ("mlp.down_proj", D, D_FF, 0.02)):
            tensors[p + name + ".weight"] = matrix(rng, rows, columns, scale)
        tensors[p + "input_layernorm.weight"] = tensors[p + "post_attention_layernorm.weight"] = [[1.0] * D]
    return tensors


def write_weights(path):
    header, data = {}, b""
    for name, rows in sorted(weights().items()):
        part = b"".join(bf16(row) for row in rows)
        shape = [len(rows[0])] if "norm" in name else [len(rows), len(rows[0])]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=True, indent=1)
        f.write("\n")


def main(folder):
    write_weights(os.path.join(folder, "model.safetensors"))
    write_json(os.path.join(folder, "config.json"), {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": len(TOKENS), "hidden_size": D,
        "intermediate_size": D_FF, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 256,
        "bos_token_id": 256, "eos_token_id": 258, "tie_word_embeddings": False, "torch_dtype": "bfloat16"})
    added = [{"id": 256 + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, text in enumerate(SPECIAL)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    write_json(os.path.join(folder, "tokenizer.json"), {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None, "pre_tokenizer": level,
        "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(TOKENS)}, "merges": []}})
    write_json(os.path.join(folder, "tokenizer_config.json"), {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[0], "eos_token": SPECIAL[2], "chat_template": TEMPLATE})


main(sys.argv[1])

#!/usr/bin/env python3
"""Writes tiktoken-arcade: the vocabulary of gpt2-bbpe as a *.tiktoken file, and what the tiktoken library makes of the
texts by StableLM-2's expression and special tokens (their order in tokenization_arcade100k.py). Needs tiktoken."""
import base64, json, os, random, unicodedata
import tiktoken

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "tiktoken-arcade")
Q = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = (["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<gh_stars>", "<filename>", "<issue_start>",
            "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<empty_output>",
            "<commit_before>", "<commit_msg>", "<commit_after>", "<reponame>", "<|endofprompt|>", "<|im_start|>", "<|im_end|>", "<|pause|>"] +
           [f"<|reg{i}|>" for i in range(8)] + ["<|extra0|>"])


def alphabet():
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in own]
    return {**{chr(b): b for b in own}, **{chr(256 + i): b for i, b in enumerate(other)}}


def main():
    os.makedirs(OUT, exist_ok=True)
    of = alphabet()
    vocab = json.load(open(os.path.join(HERE, "gpt2-bbpe", "vocab.json")))
    ranks = {bytes(of[c] for c in t): i for t, i in vocab.items()}
    with open(os.path.join(OUT, "arcade100k.tiktoken"), "w") as f:
        for b, i in sorted(ranks.items(), key=lambda x: x[1]):
            f.write(base64.b64encode(b).decode() + f" {i}\n")
    special = {t: len(ranks) + 1 + i for i, t in enumerate(SPECIAL)}
    e = tiktoken.Encoding(name="arcade", pat_str=Q, mergeable_ranks=ranks, special_tokens=special)
    dec = lambda ids: e.decode_bytes(ids).decode("utf-8", "replace")
    texts = [json.loads(x)["text"] for x in open(os.path.join(HERE, "gpt2-bbpe", "cases.jsonl"))]
    texts += ["<|im_start|>user\nhi<|im_end|>\n", "<|reg7|><|extra0|><|reg8|>", "<filename>a.c<|fim_pad|>"]
    r = random.Random(1)
    with open(os.path.join(OUT, "cases.jsonl"), "w") as f:
        for t in texts:
            ids = e.encode(unicodedata.normalize("NFC", t), allowed_special="all")
            f.write(json.dumps({"text": t, "ids": ids, "decoded": dec(ids)}, separators=(",", ":")) + "\n")
    known = list(ranks.values()) + list(special.values())
    with open(os.path.join(OUT, "decode.jsonl"), "w") as f:
        for _ in range(40):
            ids = [r.choice(known[:300] if r.random() < 0.5 else known) for _ in range(r.randint(1, 14))]
            f.write(json.dumps({"ids": ids, "decoded": dec(ids)}, separators=(",", ":")) + "\n")


main()

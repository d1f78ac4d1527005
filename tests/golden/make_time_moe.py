#!/usr/bin/env python3
"""Writes golden cases of the family time-moe with the authors' own code.

    make_time_moe.py [--path FOLDER] PACKAGE OUT_FOLDER [CASE...]

PACKAGE is the importable name of the authors' package (`time_moe` in a checkout of
Time-MoE/Time-MoE; --path FOLDER is where it lies). Needs torch, safetensors and the transformers
release that the authors ask for, 4.40.1. The weights are random, the model's code is unchanged.
A case becomes OUT_FOLDER/CASE with config.json, the weights, io.safetensors and golden.json, as
the family's README describes them. Without CASE all cases of CASES below are written.
"""
import argparse
import importlib
import json
import math
import pathlib
import sys

import torch
from safetensors.torch import save_file

# The arguments of write_case, by name.
CASES = {
    "f16-all-experts": {
        "seed": 11,
        "config": {
            "hidden_size": 100, "intermediate_size": 51, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1,
            "num_experts": 3, "num_experts_per_tok": 3, "horizon_lengths": [1, 4, 8],
            "rope_theta": 100, "max_position_embeddings": 512,
        },
        "dtype": "float16",
        "lengths": (1, 2, 9, 41),
        "horizons": (1, 7, 21),
    },
    "bin-one-expert": {
        "seed": 12,
        "config": {
            "hidden_size": 18, "intermediate_size": 27, "num_hidden_layers": 5,
            "num_attention_heads": 9, "num_key_value_heads": 3,
            "num_experts": 1, "num_experts_per_tok": 1, "horizon_lengths": 2,
            "rms_norm_eps": 1e-3, "use_cache": False,
        },
        "storage": "bin",
        "lengths": (1, 3, 19, 150),
        "horizons": (1, 2, 9),
    },
}

DEFAULTS = {
    "apply_aux_loss": True,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "input_size": 1,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000,
    "use_dense": False,
}


class Recorder:
    """The named intermediate tensors of one forward call, through hooks."""

    def __init__(self, model):
        self.tensors = {}
        self.handles = []
        body = model.model
        self.keep_output(body.embed_layer, "embed")
        self.keep_output(body.norm, "final_norm")
        for i, layer in enumerate(body.layers):
            name = f"layers.{i}."
            ffn = layer.ffn_layer
            self.keep_output(layer.input_layernorm, name + "attn_norm")
            self.keep_output(layer.self_attn, name + "attn_out")
            self.keep_input(layer.post_attention_layernorm, name + "after_attn")
            self.keep_output(layer.post_attention_layernorm, name + "ffn_norm")
            self.keep_output(ffn, name + "ffn_out")
            self.keep_output(layer, name + "out")
            if hasattr(ffn, "gate"):
                self.keep_output(ffn.gate, name + "router_logits")
                self.keep_output(ffn.shared_expert, name + "shared_out")
                self.keep_output(ffn.shared_expert_gate, name + "shared_gate_logit")

    def keep_output(self, module, name):
        def hook(_module, _args, output):
            self.keep(name, output[0] if isinstance(output, tuple) else output)

        self.handles.append(module.register_forward_hook(hook))

    def keep_input(self, module, name):
        self.handles.append(
            module.register_forward_pre_hook(lambda _module, args: self.keep(name, args[0])))

    def keep(self, name, value):
        self.tensors[name] = value.detach().clone()

    def close(self):
        for handle in self.handles:
            handle.remove()


def make_model(package, config, seed):
    """A model whose random weights leave no part without influence."""
    models = importlib.import_module(package + ".models.modeling_time_moe")
    configs = importlib.import_module(package + ".models.configuration_time_moe")
    torch.manual_seed(seed)
    c = configs.TimeMoeConfig(**{**DEFAULTS, **config})
    c._attn_implementation = "eager"
    model = models.TimeMoeForPrediction(c).eval()
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "norm" in name:
                p.copy_(1 + 0.2 * torch.randn_like(p))
            elif name.endswith(".bias"):
                p.copy_(0.3 * torch.randn_like(p))
            elif "embed_layer" in name:
                p.copy_(torch.randn_like(p))
            else:
                gain = 1.5 if "gate.weight" in name else 1.0
                p.copy_(gain * torch.randn_like(p) / math.sqrt(p.shape[-1]))
    return model


def make_series(n, generator):
    steps = torch.randn(n, generator=generator)
    time = torch.arange(n, dtype=torch.float32)
    period = 5 + 20 * torch.rand(1, generator=generator)
    x = torch.sin(2 * math.pi * time / period) + 0.3 * steps + 0.02 * steps.cumsum(0)
    return ((x - x.mean()) / (x.std() if n > 1 else 1)).float()


def forward(model, x, mask, tensors, prefix, every_layer):
    """One pass over the context with all that is named inside it."""
    config = model.config
    recorder = Recorder(model)
    call = {"use_cache": True}
    if mask is not None:
        position_ids = mask.long().cumsum(-1) - 1
        position_ids.masked_fill_(mask == 0, 1)
        tensors[prefix + "attention_mask"] = mask.long()
        tensors[prefix + "position_ids"] = position_ids
        call |= {"attention_mask": mask, "position_ids": position_ids}
    out = model(x.clone(), **call)
    recorder.close()
    seen = recorder.tensors
    batch, length = x.shape
    for i in range(config.num_hidden_layers):
        name = f"layers.{i}."
        seen[name + "k_cache"], seen[name + "v_cache"] = out.past_key_values[i]
        if config.use_dense:
            continue
        logits = seen[name + "router_logits"].reshape(batch, length, -1)
        weights, ids = torch.topk(logits.float().softmax(-1), config.num_experts_per_tok, dim=-1)
        seen[name + "router_logits"] = logits
        seen[name + "expert_ids"] = ids.to(torch.int32)
        seen[name + "gate_weights"] = weights
        for part in ["shared_out", "shared_gate_logit"]:
            seen[name + part] = seen[name + part].reshape(batch, length, -1)
    hidden = seen["final_norm"]
    for i, head in enumerate(model.lm_heads):
        answer = head(hidden).detach()
        tensors[f"{prefix}head{i}_last"] = answer[:, -1:]
        if every_layer and answer.shape[-1] <= 8:
            tensors[f"{prefix}head{i}"] = answer
    for name, value in seen.items():
        if every_layer or name == "final_norm":
            tensors[prefix + name] = value


def run_case(model, x, horizons, tensors, prefix, mask=None, every_layer=False):
    tensors[prefix + "input"] = x.clone()
    with torch.no_grad():
        forward(model, x, mask, tensors, prefix, every_layer)
        for h in horizons:
            more = {} if mask is None else {"attention_mask": mask}
            answer = model.generate(x.clone(), max_new_tokens=h, **more)
            tensors[f"{prefix}forecast_{h}"] = answer[:, -h:]


def run_cases(model, lengths, horizons, seed):
    generator = torch.Generator().manual_seed(seed)
    series = [make_series(n, generator) for n in lengths]
    tensors = {}
    calls = {}
    for x in series:
        name = f"s{len(x)}"
        run_case(model, x[None], horizons, tensors, name + ".", every_layer=1 < len(x) <= 40)
        calls[name] = f"one series of {len(x)} points, no mask"
    if len(series) > 1:
        longest = max(lengths)
        x = torch.stack([torch.cat([torch.zeros(longest - len(s)), s]) for s in series])
        mask = torch.stack(
            [(torch.arange(longest) >= longest - len(s)).long() for s in series])
        run_case(model, x, horizons[-1:], tensors, "left_padded.", mask=mask)
        calls["left_padded"] = "all series padded on the left with 0, attention mask 0 there"
    return tensors, calls


def smallest_gap(tensors):
    """The smallest distance between the last chosen and the first rejected probability."""
    gaps = []
    for name, ids in tensors.items():
        if name.endswith(".expert_ids"):
            logits = tensors[name.replace("expert_ids", "router_logits")]
            p = logits.softmax(-1).sort(-1, descending=True).values
            k = ids.shape[-1]
            if k < p.shape[-1]:
                gaps.append(float((p[..., k - 1] - p[..., k]).min()))
    return min(gaps) if gaps else None


def write_weights(folder, state, storage):
    if storage == "safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors",
                  metadata={"format": "pt"})
    elif storage == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        raise ValueError(f"storage {storage}")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, sort_keys=False) + "\n")


def write_case(package, folder, name, seed, config, dtype="float32", storage="safetensors",
               lengths=(1, 2, 19), horizons=(1, 3, 12)):
    folder.mkdir(parents=True, exist_ok=True)
    model = make_model(package, config, seed)
    stored_type = getattr(torch, dtype)
    for p in model.parameters():  # the stored values, widened; the rotary tables stay exact
        p.data = p.data.to(stored_type).float()
    write_weights(folder, {k: v.to(stored_type) for k, v in model.state_dict().items()}, storage)
    tensors, calls = run_cases(model, lengths, list(horizons), seed + 1)
    tensors = {k: v.contiguous().clone() for k, v in tensors.items()}
    save_file(tensors, folder / "io.safetensors")
    write_json(folder / "config.json", {
        "architectures": ["TimeMoeForPrediction"], "model_type": "time_moe",
        **DEFAULTS, **config, "torch_dtype": dtype})
    cases = {}
    for case, call in calls.items():
        of_case = {k: v for k, v in tensors.items() if k.startswith(case + ".")}
        cases[case] = {"call": call, "tensors": {
            k: {"shape": list(v.shape), "dtype": str(v.dtype).removeprefix("torch.")}
            for k, v in of_case.items()}}
    write_json(folder / "golden.json", {
        "family": "time-moe", "case": name, "seed": seed, "config": config,
        "origin": {"repository": "Time-MoE/Time-MoE", "torch": torch.__version__},
        "smallest_probability_gap_at_the_cut": smallest_gap(tensors), "cases": cases})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", help="folder in which the package lies")
    parser.add_argument("package")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("case", nargs="*")
    args = parser.parse_args()
    if args.path:
        sys.path.insert(0, args.path)
    for name in args.case or CASES:
        write_case(args.package, args.out / name, name, **CASES[name])


if __name__ == "__main__":
    main()

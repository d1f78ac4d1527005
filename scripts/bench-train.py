#!/usr/bin/env python3
"""Times a training step of the authors' Time-MoE (PyTorch, f32) and of moezoo in turns.

Run it with the Python that has torch and transformers 4.40.1 (the version the authors name):

    python scripts/bench-train.py --authors Time-MoE

Both sides train a model of the 50M shape with fresh weights: forward pass, Huber loss of all four
heads and the balance loss of the routers, backward pass, clipping and AdamW. Windows are full and
every point is scored. The order is PyTorch, variant 1, variant 2, ..., PyTorch, ... so that a
machine that slows down or speeds up does so for all. PyTorch makes its model once, in a process of
its own, and does one step before the turns; so does moezoo (`moezoo bench train`) in every turn.

Prints a Markdown table, then a JSON object; -o writes the JSON to a file instead.
"""
import argparse
import os
import statistics
import sys
import time

import peer

SHAPE = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12,
         "num_attention_heads": 12, "num_experts": 8, "num_experts_per_tok": 2,
         "horizon_lengths": [1, 8, 32, 64], "max_position_embeddings": 4096}


def parse_variant(text):
    precision, plus, recompute = text.partition("+")
    if precision not in ("f32", "bf16") or (plus and recompute != "recompute"):
        raise argparse.ArgumentTypeError(f'"{text}" is not f32|bf16 or f32|bf16+recompute')
    return {"name": text, "precision": precision, "recompute": bool(plus)}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--authors", metavar="DIR", required=True,
                        help="checkout of Time-MoE/Time-MoE")
    parser.add_argument("--moezoo", metavar="PATH", default="build/moezoo",
                        help="default %(default)s")
    parser.add_argument("--variant", metavar="PRECISION[+recompute]", type=parse_variant,
                        action="append",
                        help="of moezoo; may be given several times; default f32, f32+recompute, "
                             "bf16 and bf16+recompute")
    parser.add_argument("--window", metavar="N", type=int, default=1024,
                        help="points of a window; default %(default)s")
    parser.add_argument("--batch", metavar="N", type=int, default=4,
                        help="windows in a step; default %(default)s")
    parser.add_argument("--checkpointing", action="store_true",
                        help="PyTorch recomputes its layers (gradient checkpointing)")
    parser.add_argument("--repeat", metavar="N", type=int, default=5,
                        help="turns of each; default %(default)s")
    parser.add_argument("--threads", metavar="N", type=int, default=2,
                        help="threads of each; default %(default)s")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the JSON here")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(arguments.window, arguments.batch, arguments.repeat, arguments.threads) < 1:
        parser.error("--window, --batch, --repeat and --threads count from 1")
    arguments.variant = arguments.variant or [
        parse_variant(v) for v in ("f32", "f32+recompute", "bf16", "bf16+recompute")]
    return arguments


# ---- the process that runs PyTorch ----


def work(arguments):
    answers = peer.Answers()
    sys.path.insert(0, arguments.authors)
    import torch
    import transformers
    from time_moe.models.configuration_time_moe import TimeMoeConfig
    from time_moe.models.modeling_time_moe import TimeMoeForPrediction

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    # use_cache off as the authors' trainer sets it; eager attention is the one without flash_attn
    config = TimeMoeConfig(**SHAPE, use_cache=False, attn_implementation="eager")
    model = TimeMoeForPrediction(config).float().train()
    if arguments.checkpointing:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95),
                                  weight_decay=0.1)
    t = torch.arange(arguments.window + 1, dtype=torch.float32)
    series = (torch.sin(t * (6.2831853 / 24) + 6.2831853 * torch.rand(arguments.batch, 1))
              + 0.5 * torch.sin(t * (6.2831853 / 168)) + 0.1 * torch.randn(arguments.batch, len(t)))
    losses = []

    def step():
        optimizer.zero_grad()
        output = model(input_ids=series[:, :-1], labels=series[:, 1:].clone(),
                       loss_masks=torch.ones(arguments.batch, arguments.window))
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(output.loss.item())
        if losses[-1] != losses[-1]:
            raise SystemExit("PyTorch's loss is not a number")

    step()
    answers.tell(torch=torch.__version__, transformers=transformers.__version__,
                 parameters=sum(p.numel() for p in model.parameters()))
    answers.serve(step)


def start_pytorch(arguments):
    command = [sys.executable, os.path.abspath(__file__), "--worker", "--authors",
               arguments.authors, "--window", str(arguments.window), "--batch",
               str(arguments.batch), "--threads", str(arguments.threads)]
    if arguments.checkpointing:
        command.append("--checkpointing")
    return peer.Worker(command, arguments.threads)


# ---- turns ----


def run_moezoo(arguments, variant):
    command = [arguments.moezoo, "bench", "train", "--shape", "50m",
               "--precision", variant["precision"], "--window", str(arguments.window),
               "--batch", str(arguments.batch), "--repeat", "1", "-t", str(arguments.threads),
               "--quiet", "--json"]
    answer = peer.run_json(command + (["--recompute"] if variant["recompute"] else []))
    return {**answer, "seconds": answer["median_s"]}


def measure(arguments):
    torch = start_pytorch(arguments)
    turns = {"PyTorch": [], **{v["name"]: [] for v in arguments.variant}}
    for i in range(arguments.repeat):
        time.sleep(peer.PAUSE_S)
        turns["PyTorch"].append(torch.turn())
        for v in arguments.variant:
            time.sleep(peer.PAUSE_S)
            turns[v["name"]].append(run_moezoo(arguments, v))
        print(f"turn {i + 1} of {arguments.repeat}", file=sys.stderr)
    torch.close()
    return torch.about, turns


def summarise(turns):
    rows = []
    for name, items in turns.items():
        seconds = [t["seconds"] for t in items]
        rows.append({"name": name, "median_s": statistics.median(seconds), "min_s": min(seconds),
                     "max_s": max(seconds), "steps_s": seconds,
                     "peak_bytes": max(t["peak_bytes"] for t in items),
                     "gflops_per_s": max(t.get("gflops_per_s", 0) for t in items),
                     "peak_gflops_per_s": max(t.get("peak_gflops_per_s", 0) for t in items)})
    for row in rows:
        row["times_faster"] = rows[0]["median_s"] / row["median_s"]
        row["memory_share"] = row["peak_bytes"] / rows[0]["peak_bytes"]
    return rows


def print_table(rows, checkpointing):
    print("| program | median s | fastest | slowest | times faster | peak MiB | of PyTorch's |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    pytorch = "PyTorch, f32" + (", checkpointing" if checkpointing else "")
    for r in rows:
        name = pytorch if r["name"] == "PyTorch" else f"moezoo, {r['name'].replace('+', ', ')}"
        print(f"| {name} | {r['median_s']:.2f} | {r['min_s']:.2f} | {r['max_s']:.2f} "
              f"| {r['times_faster']:.2f} | {r['peak_bytes'] / 2**20:.0f} "
              f"| {100 * r['memory_share']:.0f} % |")


def main():
    arguments = parse_arguments()
    if arguments.worker:
        work(arguments)
        return
    about, turns = measure(arguments)
    rows = summarise(turns)
    print_table(rows, arguments.checkpointing)
    isa = turns[arguments.variant[0]["name"]][0]["isa"]
    peer.write_result({"cpu": peer.cpu_name(), "processors": os.cpu_count(), "isa": isa,
                       "threads": arguments.threads, "window": arguments.window,
                       "batch": arguments.batch, "repeat": arguments.repeat,
                       "checkpointing": arguments.checkpointing, "torch": about["torch"],
                       "transformers": about["transformers"], "parameters": about["parameters"],
                       "results": rows}, arguments.output)


if __name__ == "__main__":
    main()

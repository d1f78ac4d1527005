#!/usr/bin/env python3
"""Times the authors' Time-MoE (PyTorch, f32) and moezoo in turns on this machine.

Run it with the Python that has torch and transformers 4.40.1 (the version the authors name):

    python scripts/bench-peer.py --authors Time-MoE --model TimeMoE-50M-f32 \\
        --variant "f32=TimeMoE-50M-f32:f32" --variant "bf16=TimeMoE-50M:bf16"

For each size the order is PyTorch, variant 1, variant 2, ..., PyTorch, variant 1, ... so that a
machine that slows down or speeds up does so for all. PyTorch loads the model once per size, in a
process of its own, and runs one `generate` before the turns; a turn is one `generate` call as in
the authors' README (normalise, generate, scale back). A turn of moezoo is one
`moezoo bench forecast --repeat 1`, which also runs once before it measures. Both get series of
the same kind: a daily and a weekly wave on a slope with noise.

Prints a Markdown table, then a JSON object; -o writes the JSON to a file instead.
"""
import argparse
import os
import statistics
import sys
import time

import peer


def parse_sizes(text):
    sizes = []
    for item in text.split(","):
        numbers = [int(n) for n in item.split("x")]
        if len(numbers) != 3 or min(numbers) < 1:
            raise argparse.ArgumentTypeError(f'"{item}" is not BATCHxCONTEXTxHORIZON')
        sizes.append(tuple(numbers))
    return sizes


def parse_variant(text):
    name, equals, rest = text.partition("=")
    folder, colon, precision = rest.rpartition(":")
    if not (name and equals and folder and colon) or precision not in ("f32", "bf16"):
        raise argparse.ArgumentTypeError(f'"{text}" is not NAME=DIR:f32 or NAME=DIR:bf16')
    return {"name": name, "model": folder, "precision": precision}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--authors", metavar="DIR", help="checkout of Time-MoE/Time-MoE")
    parser.add_argument("--model", metavar="DIR", help="checkpoint that PyTorch loads, in f32")
    parser.add_argument("--moezoo", metavar="PATH", default="build/moezoo",
                        help="default %(default)s")
    parser.add_argument("--variant", metavar="NAME=DIR:PRECISION", type=parse_variant,
                        action="append",
                        help="checkpoint for moezoo and f32|bf16; may be given several times")
    parser.add_argument("--sizes", metavar="BxCxH,...", type=parse_sizes,
                        default="1x512x96,8x512x96,1x2048x336",
                        help="batch x context x horizon; default %(default)s")
    parser.add_argument("--repeat", metavar="N", type=int, default=5,
                        help="turns of each; default %(default)s")
    parser.add_argument("--threads", metavar="N", type=int, default=2,
                        help="threads of each; default %(default)s")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the JSON here")
    parser.add_argument("--worker", metavar="BxCxH", type=parse_sizes, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in ("authors", "model", "variant"):
        if not getattr(arguments, name) and not (name == "variant" and arguments.worker):
            parser.error(f"--{name} is missing")
    if arguments.repeat < 1 or arguments.threads < 1:
        parser.error("--repeat and --threads count from 1")
    return arguments


# ---- the process that runs PyTorch ----


def make_series(torch, batch, context):
    t = torch.arange(context, dtype=torch.float32)
    phase = torch.rand(batch, 1) * 6.2831853
    waves = 10 * torch.sin(t * (6.2831853 / 24) + phase) + 5 * torch.sin(t * (6.2831853 / 168))
    return 100 + 0.05 * t + waves + torch.randn(batch, context)


def work(arguments):
    answers = peer.Answers()
    sys.path.insert(0, arguments.authors)
    import torch
    import transformers
    from time_moe.models.modeling_time_moe import TimeMoeForPrediction

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    batch, context, horizon = arguments.worker[0]
    start = time.perf_counter()
    model = TimeMoeForPrediction.from_pretrained(arguments.model, torch_dtype=torch.float32)
    model.eval()
    load_s = time.perf_counter() - start
    series = make_series(torch, batch, context)

    def forecast():
        mean, std = series.mean(dim=-1, keepdim=True), series.std(dim=-1, keepdim=True)
        output = model.generate((series - mean) / std, max_new_tokens=horizon)
        answer = output[:, -horizon:] * std + mean
        if answer.shape != (batch, horizon) or not bool(torch.isfinite(answer).all()):
            raise SystemExit("PyTorch gave no forecast")

    forecast()
    answers.tell(load_s=load_s, torch=torch.__version__, transformers=transformers.__version__)
    answers.serve(forecast)


def start_pytorch(arguments, size):
    shape = "x".join(str(n) for n in size)
    command = [sys.executable, os.path.abspath(__file__), "--worker", shape,
               "--authors", arguments.authors, "--model", arguments.model,
               "--threads", str(arguments.threads)]
    return peer.Worker(command, arguments.threads)


# ---- turns ----


def run_moezoo(arguments, variant, size):
    batch, context, horizon = size
    command = [arguments.moezoo, "bench", "forecast", "-m", variant["model"],
               "--precision", variant["precision"], "-c", str(context), "-n", str(horizon),
               "--series", str(batch), "--repeat", "1", "-t", str(arguments.threads),
               "--quiet", "--json"]
    return peer.run_json(command)


def measure(arguments, size):
    torch = start_pytorch(arguments, size)
    variants = arguments.variant
    turns = {"PyTorch": [], **{v["name"]: [] for v in variants}}
    for i in range(arguments.repeat):
        time.sleep(peer.PAUSE_S)
        turns["PyTorch"].append(torch.turn())
        for v in variants:
            time.sleep(peer.PAUSE_S)
            answer = run_moezoo(arguments, v, size)
            turns[v["name"]].append({**answer, "seconds": answer["median_s"]})
        print(f"{'x'.join(map(str, size))}: turn {i + 1} of {arguments.repeat}", file=sys.stderr)
    torch.close()
    return torch.about, turns


def summarise(size, turns):
    rows = []
    for name, items in turns.items():
        seconds = [t["seconds"] for t in items]
        rows.append({"size": "x".join(map(str, size)), "name": name,
                     "median_s": statistics.median(seconds), "min_s": min(seconds),
                     "max_s": max(seconds), "runs_s": seconds,
                     "peak_bytes": max(t["peak_bytes"] for t in items)})
    for row in rows:
        row["times_faster"] = rows[0]["median_s"] / row["median_s"]
        row["memory_share"] = row["peak_bytes"] / rows[0]["peak_bytes"]
    return rows


def print_table(rows):
    print("| batch x context x horizon | program | median s | fastest | slowest "
          "| times faster | peak MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        name = r["name"] if r["name"] == "PyTorch" else f"moezoo, {r['name']}"
        print(f"| {r['size'].replace('x', ' x ')} | {name} | {r['median_s']:.4f} "
              f"| {r['min_s']:.4f} | {r['max_s']:.4f} | {r['times_faster']:.2f} "
              f"| {r['peak_bytes'] / 2**20:.0f} |")


def main():
    arguments = parse_arguments()
    if arguments.worker:
        work(arguments)
        return
    rows = []
    about = {}
    isa = {}
    for size in arguments.sizes:
        about, turns = measure(arguments, size)
        isa = {v["name"]: turns[v["name"]][0]["isa"] for v in arguments.variant}
        rows += summarise(size, turns)
    print_table(rows)
    result = {"cpu": peer.cpu_name(), "processors": os.cpu_count(), "threads": arguments.threads,
              "repeat": arguments.repeat, "torch": about["torch"],
              "transformers": about["transformers"], "isa": isa, "results": rows}
    peer.write_result(result, arguments.output)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times llama.cpp, ik_llama.cpp and moezoo in turns on the same GGUF files.

    python3 scripts/bench-llm.py --peer "llama.cpp=llama.cpp/build/bin/llama-bench" \\
        --peer "ik -rtr 1=ik_llama.cpp/build/bin/llama-bench -rtr 1" smollm2-q8_0.gguf moe450-q4_0.gguf

A peer is NAME=COMMAND, where the command understands the options of llama-bench. For each file the
order is moezoo, peer 1, peer 2, ..., moezoo, peer 1, ..., each turn a process of its own that reads
--prompt tokens at once and writes --decode tokens once, after a warm-up of its own, so that a machine
that slows down does so for all. What other processes took of the machine is measured beside each
turn; a turn where they took more than --others processors does not count and is taken again, at most
--tries times.

Prints a Markdown table of medians (tokens per second), ratios to moezoo and peak resident memory, then
a JSON object; -o writes the JSON to a file instead.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time

import peer

TICKS = os.sysconf("SC_CLK_TCK")


def parse_peer(text):
    name, equals, command = text.partition("=")
    if not (name and equals and command):
        raise argparse.ArgumentTypeError(f'"{text}" is not NAME=COMMAND')
    return name, shlex.split(command)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("files", metavar="FILE.gguf", nargs="+")
    parser.add_argument("--moezoo", metavar="PATH", default="build/moezoo", help="default %(default)s")
    parser.add_argument("--options", metavar="TEXT", type=shlex.split, default=[],
                        help='further options of moezoo bench llm, such as "--isa avx2"')
    parser.add_argument("--peer", metavar="NAME=COMMAND", type=parse_peer, action="append", default=[])
    parser.add_argument("--prompt", metavar="N", type=int, default=512, help="default %(default)s")
    parser.add_argument("--decode", metavar="N", type=int, default=64, help="default %(default)s")
    parser.add_argument("--repeat", metavar="N", type=int, default=5, help="turns of each; default %(default)s")
    parser.add_argument("--threads", metavar="N", type=int, default=2, help="of each; default %(default)s")
    parser.add_argument("--others", metavar="X", type=float, default=0.15,
                        help="processors that others may take beside a turn; default %(default)s")
    parser.add_argument("--tries", metavar="N", type=int, default=20, help="for one turn; default %(default)s")
    parser.add_argument("-o", metavar="FILE", dest="output", help="JSON goes here")
    return parser.parse_args()


def busy_s():
    """Seconds that all processors have worked since the machine started."""
    with open("/proc/stat", encoding="utf-8") as file:
        fields = [int(v) for v in file.readline().split()[1:9]]
    return (sum(fields[:3]) + sum(fields[5:8])) / TICKS


def run(command):
    """The JSON that the command prints, its peak memory, and the processors that others took."""
    busy, start = busy_s(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{shlex.join(command)}: status {status}")
    elapsed = time.perf_counter() - start
    others = (busy_s() - busy - usage.ru_utime - usage.ru_stime) / elapsed
    return json.loads(text), usage.ru_maxrss * 1024, max(0.0, others)


def moezoo_turn(arguments, file):
    command = [arguments.moezoo, "bench", "llm", "-m", file, "-t", str(arguments.threads), "--prompt",
               str(arguments.prompt), "--decode", str(arguments.decode), "--repeat", "1", "--json", *arguments.options]
    answer, peak, others = run(command)
    return {"prefill": answer["prefill"]["runs"][0]["tokens_per_s"],
            "decode": answer["decode"]["runs"][0]["tokens_per_s"], "peak_bytes": peak, "others": others}


def peer_turn(arguments, command, file):
    answer, peak, others = run([*command, "-m", file, "-t", str(arguments.threads), "-p", str(arguments.prompt),
                                "-n", str(arguments.decode), "-r", "1", "-o", "json"])
    rates = {"prefill" if part["n_prompt"] > 0 else "decode": part["avg_ts"] for part in answer}
    return {**rates, "peak_bytes": peak, "others": others}


def quiet_turn(arguments, turn, *what):
    best = None
    for _ in range(arguments.tries):
        result = turn(arguments, *what)
        if best is None or result["others"] < best["others"]:
            best = result
        if result["others"] <= arguments.others:
            break
        time.sleep(1)
    return best


def measure(arguments, file):
    turns = {"moezoo": []}
    for _ in range(arguments.repeat):
        turns["moezoo"].append(quiet_turn(arguments, moezoo_turn, file))
        for name, command in arguments.peer:
            time.sleep(peer.PAUSE_S)
            turns.setdefault(name, []).append(quiet_turn(arguments, peer_turn, command, file))
    return turns


def main():
    arguments = parse_arguments()
    result = {"machine": peer.cpu_name(), "threads": arguments.threads, "prompt": arguments.prompt,
              "decode": arguments.decode, "files": {}}
    print(f"{result['machine']}, {arguments.threads} threads, medians of {arguments.repeat} turns\n")
    print("| file | program | prefill, tokens/s | moezoo / it | decode, tokens/s | moezoo / it | peak MiB | others |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for file in arguments.files:
        turns = measure(arguments, file)
        result["files"][file] = turns
        medians = {name: {key: statistics.median(t[key] for t in list_) for key in list_[0]}
                   for name, list_ in turns.items()}
        own = medians["moezoo"]
        for name, m in medians.items():
            print(f"| {os.path.basename(file)} | {name} | {m['prefill']:.0f} | {own['prefill'] / m['prefill']:.2f} | "
                  f"{m['decode']:.1f} | {own['decode'] / m['decode']:.2f} | {m['peak_bytes'] / 2**20:.0f} | "
                  f"{m['others']:.2f} |")
            sys.stdout.flush()
    peer.write_result(result, arguments.output)


if __name__ == "__main__":
    main()

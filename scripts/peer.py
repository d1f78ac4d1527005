"""What bench-peer.py and bench-train.py share: a PyTorch process that works on demand, and who runs where."""
import json
import os
import platform
import resource
import subprocess
import sys
import time

PAUSE_S = 0.3  # lets the other program's threads go to sleep


class Answers:
    """The worker's side: one line of JSON an answer. What libraries print goes to stderr."""

    def __init__(self):
        self.stream = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def tell(self, **fields):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"peak_bytes": peak, **fields}), file=self.stream)

    def serve(self, call):
        """Answers each line of stdin with the seconds that one call took."""
        for _ in sys.stdin:
            start = time.perf_counter()
            call()
            self.tell(seconds=time.perf_counter() - start)


class Worker:
    """The other side: runs `command`; `about` is its first answer."""

    def __init__(self, command, threads):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)
        self.about = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the PyTorch process ended with {self.process.wait()}")
        return json.loads(line)

    def turn(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def run_json(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def write_result(result, path):
    """As a file where there is a path, else on stdout."""
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
            file.write("\n")
    else:
        print()
        print(json.dumps(result))

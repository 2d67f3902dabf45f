"""The programs that take turns, and the machine they run on."""
import json
import os
import platform
import subprocess
import sys
import time

PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_server.py")


class Server:
    """A program that answers each line with one of numbers."""

    def __init__(self, program, threads, *first_words):
        # Where a BLAS reads them. OMP_NUM_THREADS holds for MKL too; nothing of MKL's own is set.
        environment = dict(os.environ, OPENBLAS_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
        self.process = subprocess.Popen([*first_words, program, str(threads)], env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.name = os.path.basename(program)

    def line(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.name} ended: " + " ".join(map(str, words)))
        return answer

    def numbers(self, *words):
        return list(map(float, self.line(*words).split()))

    def __call__(self, *words):
        return self.numbers(*words)[0]

    def cpu_seconds(self):
        return time.clock_gettime((~self.process.pid << 3) | 2)  # what clock_getcpuclockid(3) gives for a process

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Peer(Server):
    """The torch of one Python, with all threads."""

    def __init__(self, python, threads):
        super().__init__(PEER, threads, python)
        self.about = json.loads(self.line("about"))


def settle(servers):
    """Waits until no server, nor this process, spins. An idle thread looks for work before it sleeps, for 10 ms with torch's
    OpenMP and for 110 ms with Debian's OpenBLAS, and would take a core from whoever's turn is next. Telling it to sleep at once
    would make it slower."""
    def used():
        return time.process_time() + sum(server.cpu_seconds() for server in servers)

    for _ in range(50):
        before = used()
        time.sleep(0.01)
        if used() - before < 1e-3:
            return


def machine(threads_list, peers=None):
    """peers: {name: what Peer.about says}, the one that ratios are of first; default: the torch of this Python."""
    if peers is None:
        peer = Peer(sys.executable, 1)
        peers = {"torch": peer.about}
        peer.close()
    first = next(iter(peers.values()))
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    flags = next((l for l in open("/proc/cpuinfo") if l.startswith("flags")), "").split()
    return {"cpu": cpu, "cores": os.cpu_count(), "avx2": "avx2" in flags, "avx512": "avx512f" in flags, "threads": threads_list,
            "date": time.strftime("%Y-%m-%d"), "peer": f"torch {first['torch']}", "peer_blas": first["blas"], "peers": peers,
            "ours_blas": "none: the library's and Eigen's kernels",
            "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE", "not set"),
            "mkl_variables": {name: value for name, value in os.environ.items() if name.startswith("MKL_")}}

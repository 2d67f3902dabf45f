"""Compares this library on the CPU with torch: truncated SVDs and streaming estimates with torch.svd_lowrank(G, q=4r, niter=4),
which LoRA-GA's authors and huggingface/peft call, then bare products (products.py). Same run, same matrices, in turn.
bench/run.sh cpu sets everything up and calls it.

Peers are --peer NAME=PYTHON, the torch of each Python: the first is the headline, whose ratio is `ratio` and whose loss sets
the limits. Quality comes first. loss = 1 - captured/optimal energy of the 2r leading triplets, the worse of U and V, the worst
over the measured seeds, all sides by the same code. "tight" must not lose more than 1.2 times what the first peer loses (or
2e-6), "balanced" not more than 1e-3; U and V must be orthonormal to 1e-5. A miss ends with status 1.
A peer's ms is its fastest run, ours_ms our median: ratio = peer's ms/ours_ms. With several threads a peer runs with all of
them and with one, since more are not always faster for it, and the faster counts.
With --before, another build of the server takes its turns too: before_ratio is the median over rounds of its time by ours in
the same round.
"""
import argparse
import glob
import json
import os
import subprocess
import sys

import numpy as np

import pictures
import products
import spectra
from matrix_file import read_matrices
from servers import Peer, Server, machine  # evidence/presets.py takes Server, machine and Bench from here
from turns import Bench

SHAPES = [(4096, 4096), (3072, 768), (768, 768)]
RANKS = [8, 32, 128]
STREAM = [(8, 0), (8, 1), (32, 0), (32, 1)]  # rank, power steps


def prepare(work):
    for m, n in SHAPES:
        for kind in ("pl1n", "pl05", "tok"):
            path = os.path.join(work, f"{kind}-{m}x{n}")
            if not os.path.exists(path + ".npy"):
                print("making", os.path.basename(path), flush=True)
                spectra.make_file(kind, m, n, path)
    for path in glob.glob(os.path.join(work, "real", "*.f32")):
        np.save(path + ".npy", spectra.leading_energies(read_matrices(path)[0].astype(np.float64), 256))


def all_cases(bench, ranks, work):
    for rank in ranks:
        for kind in ("pl1n", "pl05", "tok"):
            for m, n in SHAPES:
                if 4 * rank <= min(m, n):
                    bench.svd_case(f"{kind}-{m}x{n}-r{rank}", [os.path.join(work, f"{kind}-{m}x{n}")], rank)
    for rank, power in STREAM:
        if rank in ranks:
            bench.stream_case(os.path.join(work, "tok-4096x4096"), rank, power)
    if 8 in ranks:
        shapes = {}
        for path in sorted(glob.glob(os.path.join(work, "real", "*.f32"))):
            shapes.setdefault(tuple(np.fromfile(path, np.int32, 2)), []).append(path)
        for (m, n), paths in shapes.items():
            bench.svd_case(f"vit-{m}x{n}-r{min(8, m // 2, n // 2)}", paths, min(8, m // 2, n // 2))


def estimates(args, counts):
    """The record of SVDs and streaming estimates, and the names of missed gates."""
    result, misses = {"rows": []}, []
    if args.before:
        result["before"] = args.before_name
    for threads in counts:
        server, before = (Server(program, threads) if program else None for program in (args.server, args.before))
        peers = {name: Peer(python, threads) for name, python in args.peers.items()}
        bench = Bench(server, before, threads, args.work, peers)
        print(bench.head())
        all_cases(bench, args.ranks, args.work)
        result["rows"] += bench.rows
        misses += bench.misses
        for process in filter(None, (server, before, *peers.values())):
            process.close()
    return result, misses


def profile(args):
    """Where an SVD's time goes, on one thread, for the flattest spectrum."""
    matrices = [os.path.join(args.work, f"pl05-{m}x{n}") for m, n in SHAPES]
    path = os.path.join(args.results, "svd_profile.json")
    with open(path, "w") as out:
        subprocess.run([args.profile, "5", *matrices], stdout=out, check=True)
    print("written to", path)


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="the program svd_server")
    parser.add_argument("--products", required=True, help="the program products")
    parser.add_argument("--profile", required=True, help="the program svd_profile")
    parser.add_argument("--peer", action="append", required=True, metavar="NAME=PYTHON", help="a Python that has torch")
    parser.add_argument("--before", help="svd_server of another commit, to take turns with")
    parser.add_argument("--before-products", help="that commit's program products")
    parser.add_argument("--before-name", help="that commit, for the record")
    parser.add_argument("--work", required=True, help="folder for matrices")
    parser.add_argument("--results", required=True, help="folder for cpu.json, products.json and their pictures")
    parser.add_argument("--threads", type=int, help="threads of all sides (default: one, then all cores)")
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--no-products", action="store_true", help="SVDs and streaming estimates only")
    which.add_argument("--products-only", action="store_true", help="products and their floor only")
    args = parser.parse_args()
    args.peers = dict(peer.split("=", 1) for peer in args.peer)
    return args


def main():
    args = options()
    os.makedirs(args.work, exist_ok=True)
    os.makedirs(args.results, exist_ok=True)
    counts = [args.threads] if args.threads else sorted({1, os.cpu_count()})
    peers = {name: Peer(python, 1) for name, python in args.peers.items()}
    about = {name: peer.about for name, peer in peers.items()}
    for peer in peers.values():
        peer.close()
    said = [f"--threads {args.threads}"] if args.threads else []
    said += ["--ranks " + " ".join(map(str, args.ranks))] if args.ranks != RANKS else []
    top = {"command": " ".join(["bash bench/run.sh cpu", *said]), "machine": machine(counts, about)}
    misses = []
    if not args.no_products:
        record, missed = products.measure(args, counts)
        misses += missed
        write({**top, **record}, os.path.join(args.results, "products"), pictures.products)
    if not args.products_only:
        prepare(args.work)
        record, missed = estimates(args, counts)
        misses += missed
        write({**top, **record}, os.path.join(args.results, "cpu"), pictures.ratios)
        profile(args)
    if misses:
        sys.exit("gate missed: " + ", ".join(misses))


def write(record, path, picture):
    with open(path + ".json", "w") as out:
        json.dump(record, out, indent=1)
        out.write("\n")
    picture(record, path + ".png")
    print(f"written to {path}.json and .png")


if __name__ == "__main__":
    main()

"""Checks the SVD presets on matrices with the spectra of bench/results/spectra.json: random orthonormal factors around
them, then what bench/cpu/compare.py does with its own, a batch of all layers of one shape at a time."""
import argparse
import json
import os
import sys
import zlib

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cpu"))
import compare
import spectra

RANKS = [8, 32]  # 4r, the peer's width, stays below the layers' 384


def make(layer, set_name, path):
    rng = np.random.default_rng(zlib.crc32(f"{set_name} {layer['name']}".encode()))
    sigma = np.array(layer["spectrum"])
    sigma = sigma / sigma[0]
    g = (spectra.orthonormal(layer["out"], len(sigma), rng) * sigma) @ spectra.orthonormal(layer["in"], len(sigma), rng).T
    spectra.write(path, g)
    np.save(path + ".npy", spectra.leading_energies(g.astype(np.float32).astype(np.float64), 256))


def main():
    parser = argparse.ArgumentParser()
    for name in ("--server", "--spectra", "--work", "--result"):
        parser.add_argument(name, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    bench = compare.Bench(compare.Server(args.server, args.threads), None, args.threads, args.work)
    for set_name, layers in json.load(open(args.spectra))["sets"].items():
        shapes = {}
        for layer in layers:
            path = os.path.join(args.work, f"{set_name}-{layer['name']}.f32")
            make(layer, set_name, path)
            shapes.setdefault((layer["out"], layer["in"]), []).append(path)
        for (m, n), paths in shapes.items():
            for rank in RANKS:
                if 4 * rank <= min(m, n):
                    bench.svd_case(f"{set_name}-{m}x{n}-r{rank}", paths, rank, {"set": set_name})
    json.dump({"machine": compare.machine([args.threads]), "rows": bench.rows, "misses": bench.misses}, open(args.result, "w"))


if __name__ == "__main__":
    main()

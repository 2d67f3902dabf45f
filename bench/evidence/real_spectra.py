"""bench/results/spectra.json, and the SVD presets measured on matrices with these spectra."""
import hashlib
import json
import os
import re
import subprocess
import sys

import plan
from files import HERE, json_lines
from verdicts import rounded

SPECTRA_BYTES = 300_000


def spectra_of(builder):
    sets = {}
    for s in plan.SETS:
        record = builder.record(plan.gradient(s, plan.SEEDS[0], spectra=True))
        if record:
            sets[s] = [{"name": l["name"], "out": l["out"], "in": l["in"], "spectrum": rounded(l["spectrum"], 5)} for l in record["layers"]]
    if not sets:
        return None

    def block(layer):
        number = re.search(r"\d+", layer["name"])
        return int(number[0]) if number else 0

    blocks = sorted({block(l) for layers in sets.values() for l in layers})
    for kept, words in ((blocks, "all layers"), ({blocks[0], blocks[len(blocks) // 2], blocks[-1]}, "first, middle and last block"),
                        ({blocks[0], blocks[-1]}, "first and last block"), ({blocks[len(blocks) // 2]}, "middle block")):
        text = json_lines({
            "what": f"singular values of the mean gradient over {plan.SAMPLE} snippets before training, seed {plan.SEEDS[0]}",
            "layers": words, "command": "bash bench/run.sh evidence",
            "sets": {s: [l for l in layers if block(l) in kept] for s, layers in sets.items()}})
        if len(text) <= SPECTRA_BYTES:
            break
    return text


def svd_presets(args, path):
    """The rows of presets.py, measured anew when the spectra have changed; or why there are none."""
    if not os.path.exists(path):
        return None, "no spectra"
    key = hashlib.sha1(open(path, "rb").read()).hexdigest()
    kept = os.path.join(args.work, f"presets-{key[:8]}.json")
    if not os.path.exists(kept):
        environment = dict(os.environ, OPENBLAS_NUM_THREADS=str(args.threads), OMP_NUM_THREADS=str(args.threads))
        status = subprocess.run([sys.executable, os.path.join(HERE, "presets.py"), "--server", args.server, "--spectra", path, "--work",
                                 os.path.join(args.work, "matrices"), "--threads", str(args.threads), "--result", kept], env=environment)
        if status.returncode or not os.path.exists(kept):
            return None, f"bench/evidence/presets.py ended with status {status.returncode}"
    return json.load(open(kept)), None

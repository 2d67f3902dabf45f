"""A trained adapter in llama.cpp: does it lose there what it loses here, and what does it say?

    serve.py --model FILE.gguf --run OUT [--adapter NAME ...] [--limit 2]

OUT is the folder that `bash examples/run.sh llm` wrote: held_out.json, results.jsonl, and adapters/NAME/adapter.gguf for
every run. The held-out loss of each adapter is computed by llama.cpp on the same tokens and held against the one that
the training recorded; a difference of more than --limit percent ends with status 1. Needs numpy and llama-cpp-python
(written with 0.3.36; `pip install llama-cpp-python` compiles llama.cpp, which takes ten minutes or so).
"""
import argparse
import json
import os
import sys
from pathlib import Path

import llama_cpp
import numpy as np

ANSWER = 48  # tokens at most


def loss_and_tokens(model, item):
    """Sum of the answer's cross-entropies, given the prompt and what of the answer went before."""
    tokens, prompt = item["tokens"], item["prompt"]
    model.reset()
    model.eval(tokens[:-1])
    logits = np.array(model.scores[prompt - 1:len(tokens) - 1], dtype=np.float64)
    top = logits.max(axis=1)
    log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    wanted = logits[np.arange(len(logits)), tokens[prompt:]]
    return float((log_sum - wanted).sum()), len(logits)


def answer(model, item):
    model.reset()
    tokens = list(item["tokens"][:item["prompt"]])
    said = []
    for token in model.generate(tokens, temp=0.0, top_k=1):
        if token == model.token_eos() or len(said) == ANSWER:
            break
        said.append(token)
    return model.detokenize(said).decode(errors="replace")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--adapter", nargs="*")
    parser.add_argument("--limit", type=float, default=2, help="percent")
    options = parser.parse_args()
    items = json.loads((options.run / "held_out.json").read_text())
    recorded = {r["id"]: r["loss"] for r in map(json.loads, (options.run / "results.jsonl").open()) if "loss" in r}
    names = options.adapter or sorted(p.parent.name for p in (options.run / "adapters").glob("*/adapter.gguf"))
    most = max(len(i["tokens"]) for i in items) + ANSWER
    failed = not names
    for name in [None] + names:
        lora = str(options.run / "adapters" / name / "adapter.gguf") if name else None
        model = llama_cpp.Llama(options.model, lora_path=lora, n_ctx=most, n_batch=most, n_threads=os.cpu_count(),
                                n_threads_batch=os.cpu_count(), logits_all=True, verbose=False)
        sums = [loss_and_tokens(model, item) for item in items]
        loss = sum(s for s, _ in sums) / sum(n for _, n in sums)
        if name is None:
            print(f"the base alone: held-out loss {loss:.4f} in llama.cpp")
            continue
        ours = recorded[name]
        apart = 100 * (loss / ours - 1)
        failed = failed or abs(apart) > options.limit
        print(f"{name}: held-out loss {loss:.4f} in llama.cpp, {ours:.4f} here: {apart:+.2f} %")
        print(f"  {items[0]['term']}: {answer(model, items[0])}")
    return failed


if __name__ == "__main__":
    sys.exit(main())

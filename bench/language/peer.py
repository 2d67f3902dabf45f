"""PEFT's side of the training step: the same model in fp32, the same adapters, batches and optimiser.

    peer.py MODEL.gguf FOLDER THREADS PIECES     PIECES: how many items go through the model at a time, padded to the longest

Takes one AdamW step per line on stdin, on the next batch of FOLDER/batches.json, from the adapters of FOLDER/adapter, and
answers with its mean loss before the step and its seconds.
"""
import json
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def tensors(items):
    longest = max(len(i["tokens"]) for i in items)
    ids = torch.zeros(len(items), longest, dtype=torch.long)
    seen, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, item in enumerate(items):
        n, prompt = len(item["tokens"]), item["prompt"]
        ids[row, :n] = torch.tensor(item["tokens"])
        seen[row, :n] = 1
        labels[row, prompt:n] = ids[row, prompt:n]
    return {"input_ids": ids, "attention_mask": seen, "labels": labels}


def answers(item):
    return len(item["tokens"]) - item["prompt"]


def main():
    model_file, folder, threads, pieces = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    base = AutoModelForCausalLM.from_pretrained(model_file.parent, gguf_file=model_file.name, dtype=torch.float32)
    base.config.use_cache = False
    model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True)
    model.train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0)
    batches = json.loads((folder / "batches.json").read_text())
    print("ready", flush=True)
    for number, _ in enumerate(sys.stdin):
        batch = batches[number % len(batches)]
        began = time.perf_counter()
        total, loss = sum(answers(i) for i in batch), 0.0
        ordered = sorted(batch, key=lambda i: len(i["tokens"]))  # like lengths together: the least padding
        for first in range(0, len(batch), pieces):
            piece = ordered[first:first + pieces]
            share = model(**tensors(piece)).loss * (sum(answers(i) for i in piece) / total)
            share.backward()
            loss += share.item()
        optimiser.step()
        optimiser.zero_grad()
        print(f"{loss:.9g} {time.perf_counter() - began:.6f}", flush=True)


if __name__ == "__main__":
    main()

"""PEFT's side of the encoder's training step: the same model, head, adapters, batches and optimiser, in fp32, without dropout.

    encoder_peer.py MODEL FOLDER THREADS METHOD PIECES ATTENTION

MODEL is the encoder's folder, METHOD `lora` or `full`. A batch goes through the model PIECES snippets at a time, the shortest
first, padded to the longest of them; ATTENTION is what transformers calls it: sdpa or eager. Takes one AdamW step per line on
stdin, on the next batch of FOLDER/batches.json, with FOLDER's head and adapters, and answers with its mean loss before the
step and its seconds.
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
from transformers import BertModel

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
RATES = {"lora": 1e-3, "full": 1e-4}


def tensors(items):
    longest = max(len(i["tokens"]) for i in items)
    ids = torch.zeros(len(items), longest, dtype=torch.long)
    seen = torch.zeros_like(ids)
    for row, item in enumerate(items):
        n = len(item["tokens"])
        ids[row, :n] = torch.tensor(item["tokens"])
        seen[row, :n] = 1
    return ids, seen, torch.tensor([i["label"] for i in items])


def read_head(folder, width):
    stored = json.loads((folder / "head.json").read_text())
    head = torch.nn.Linear(width, len(stored["bias"]))
    with torch.no_grad():
        head.weight.copy_(torch.tensor(stored["weight"]).reshape(head.weight.shape))
        head.bias.copy_(torch.tensor(stored["bias"]))
    return head


def loss_of(encoder, head, items):
    """The sum over snippets of the cross-entropy of a linear head on the mean of the last hidden states."""
    ids, seen, labels = tensors(items)
    states = encoder(input_ids=ids, attention_mask=seen).last_hidden_state
    weights = seen.unsqueeze(-1).to(states.dtype)
    pooled = (states * weights).sum(1) / weights.sum(1)
    return torch.nn.functional.cross_entropy(head(pooled), labels, reduction="sum")


def main():
    model_folder, folder, threads, method, pieces, attention = sys.argv[1:]
    folder, pieces = Path(folder), int(pieces)
    torch.set_num_threads(int(threads))
    encoder = BertModel.from_pretrained(model_folder, dtype=torch.float32, add_pooling_layer=False, attn_implementation=attention,
                                        **NO_DROPOUT)
    if method == "lora":
        encoder = PeftModel.from_pretrained(encoder, folder / "adapter", is_trainable=True)
    encoder.train()
    head = read_head(folder, encoder.config.hidden_size)
    trained = [p for p in [*encoder.parameters(), *head.parameters()] if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATES[method], weight_decay=0, fused=True)
    batches = json.loads((folder / "batches.json").read_text())
    print("ready", flush=True)
    for number, _ in enumerate(sys.stdin):
        batch = batches[number % len(batches)]
        began = time.perf_counter()
        ordered = sorted(batch, key=lambda i: len(i["tokens"]))  # like lengths together: the least padding
        loss = 0.0
        for first in range(0, len(batch), pieces):
            share = loss_of(encoder, head, ordered[first:first + pieces]) / len(batch)
            share.backward()
            loss += share.item()
        optimiser.step()
        optimiser.zero_grad()
        print(f"{loss:.9g} {time.perf_counter() - began:.6f}", flush=True)


if __name__ == "__main__":
    main()

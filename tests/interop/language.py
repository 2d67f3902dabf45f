"""The language example's tokenizer and decoder against Hugging Face's, on the quantised model it trains.

    language.py --decoder PROGRAM --model FILE.gguf --work FOLDER [--llama-cpp PYTHON]

PROGRAM is decoder.cpp, compiled. Tokens are held against the package tokenizers, set up as the model's own tokenizer is
(every digit alone, then bytes); with --llama-cpp also against llama.cpp's, through llama-cpp-python. Logits are held
against transformers, which unpacks the same file.
"""
import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
here = str(Path(__file__).resolve().parent)

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM

sys.path.insert(0, here)
from report import Report

LETTERS = (" \n\t'sstrevmlld0123456789.,;!?-_()[]" "éüñßЖдя日本語한국어العربية😀👍🏽ﬁ½²Ⅷ"
           "\u00a0\u2003\u3000\u200d\ufeff\u0301")
SENTENCES = ["The quick brown fox jumps over the lazy dog, doesn't it?", "int main() { return 0x1F; }  // 42",
             "Straße, naïve, Żółć — 3½ °C", "a\n\n  b\tc   ", ""]


def texts(count=1000):
    """Sentences, program text, and random Unicode."""
    random.seed(1)
    words = "loss gradient rank 2024 it's we'll I'd 1,000 e-mail naïve C++ x86_64 #define  \n".split(" ")
    all = list(SENTENCES)
    while len(all) < count // 2:
        all.append(" ".join(random.choice(words) for _ in range(random.randrange(1, 40))))
    ranges = [(1, 0x250), (0x250, 0xd800), (0xe000, 0xfffe), (0x10000, 0x1ffff)]
    while len(all) < count:
        all.append("".join(random.choice(LETTERS) if random.random() < 0.7 else
                           chr(random.randrange(*random.choice(ranges))) for _ in range(random.randrange(0, 60))))
    return [t.replace("\0", "") for t in all]


def check_tokens(report, options):
    fields = gguf.GGUFReader(options.model).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    theirs = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    all = texts()
    (options.work / "texts").write_bytes(b"".join(t.encode() + b"\0" for t in all))
    run = subprocess.run([options.decoder, "encode", options.model, options.work / "texts"], check=True,
                         capture_output=True, text=True)
    ours = [[int(x) for x in line.split()] for line in run.stdout.split("\n")[:-1]]
    wrong = [t for t, ids in zip(all, ours) if theirs.encode(t).ids != ids]
    report.true(f"tokens of {len(all)} texts equal tokenizers'", len(ours) == len(all) and not wrong, repr(wrong[:3]))
    if options.llama_cpp:
        # -I: `llama_cpp` is the package there, not the script of this folder
        run = subprocess.run([options.llama_cpp, "-I", Path(here) / "llama_tokens.py", options.model, options.work / "texts"],
                             check=True, capture_output=True, text=True)
        there = [[int(x) for x in line.split()] for line in run.stdout.split("\n")[:-1]]
        wrong = [t for t, a, b in zip(all, ours, there) if a != b]
        report.true(f"tokens of {len(all)} texts equal llama.cpp's", len(there) == len(all) and not wrong, repr(wrong[:3]))


def check_logits(report, options):
    model = AutoModelForCausalLM.from_pretrained(options.model.parent, gguf_file=options.model.name,
                                                 dtype=torch.float32)
    rng = np.random.default_rng(2)
    for count in (1, 12, 100):
        ids = rng.integers(20, model.config.vocab_size, count).tolist()
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0].numpy()
        out = options.work / "logits.f32"
        subprocess.run([options.decoder, "logits", options.model, out, *map(str, ids)], check=True)
        ours = np.fromfile(out, dtype=np.float32).reshape(theirs.shape)
        report.near(f"logits after {count} tokens equal transformers'", ours, theirs, 1e-3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--decoder", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--llama-cpp", metavar="PYTHON", help="one that has llama-cpp-python")
    options = parser.parse_args()
    options.decoder, options.model = options.decoder.resolve(), options.model.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    report = Report()
    check_tokens(report, options)
    check_logits(report, options)
    print(report.text(), end="")
    return report.failed()


if __name__ == "__main__":
    sys.exit(main())

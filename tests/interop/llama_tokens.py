"""Token ids by llama.cpp: llama_tokens.py MODEL.gguf TEXTS, texts one after another, each ended by a NUL byte; a line of ids
per text. Needs llama-cpp-python alone, so that it may run in an environment of its own."""
import sys

import llama_cpp

model = llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False)
for text in open(sys.argv[2], "rb").read().split(b"\0")[:-1]:
    print(*model.tokenize(text, add_bos=False, special=False))

"""Reference figures for the sentiment example's encoder and tokenizer, made by transformers and torch.

minilm.py --model FOLDER --reference FOLDER
  --model      the unpacked all-MiniLM-L6-v2 (build/minilm, which examples/run.sh sentiment fetches)
  --reference  where sentences.json, tiny.safetensors and tiny-config.json go (tests/interop/reference/minilm)
Needs the packages of tests/interop/requirements.txt.
"""
import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, BertConfig, BertModel

SENTENCES = [
    "The soup was cold and the waiter did not care.",
    "What a wonderful, quiet morning by the lake!",
    "I'd buy it again; it isn't cheap, but it's worth every cent.",
    "ALL CAPS AND NO MANNERS!!!",
    "Café crème brûlée à la carte, naïve façade, Ångström, Zürich",
    "İstanbul'da güneş var; ÇOK GÜZEL",
    "Привет, мир: ёлка зелёная",
    "数学很有趣, isn't it? 東京タワー",
    "한국어 문장도 있습니다",
    "mixed汉字and latin",
    "tabs\tand\u00a0odd\u2003spaces\u200b here",
    "“Curly quotes” — and dashes – and … dots",
    "smile :-) frown :( heart <3 @someone #tag http://example",
    "emoji 😀 and 🎉🎉 party",
    "3.14159 and 1,000,000 at 50% off for $9.99",
    "antidisestablishmentarianism unbelievably hyperparameterisation",
    "a" * 101 + " is too long",
    "b" * 100,
    "",
    "   ",
    "!",
    "don't can't won't shouldn't've",
    "under_score and back\\slash and ^caret ~tilde `tick`",
    "combining e\u0301 o\u0308 n\u0303 and ligature ﬁ ﬂ",
    "full width ＡＢＣ！ and ½ ² ™ © €",
    "\u0001control\u0007 characters \ufffd vanish\u0000",
    "ﷺ and ١٢٣ and हिन्दी में वाक्य",
    "Straße STRASSE ẞ ΑΒΓΣ ς σ",
    "not bad at all, rather good in fact",
    "the plot is thin, the jokes are worse, and yet I laughed until the very last minute of the film",
]


def sentences(model_folder):
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = BertModel.from_pretrained(model_folder).eval()
    out = []
    for text in SENTENCES:
        ids = tokenizer(text, truncation=True, max_length=512, padding=False)["input_ids"]
        with torch.no_grad():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        embedding = torch.nn.functional.normalize(states.mean(0), dim=0)
        out.append({"text": text, "ids": ids, "embedding": [round(x, 7) for x in embedding[::16].tolist()]})
    return out


def tiny(folder):
    torch.manual_seed(3)
    sizes = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                 max_position_embeddings=12, type_vocab_size=2)
    config = BertConfig(**sizes, hidden_act="gelu", layer_norm_eps=1e-12, hidden_dropout_prob=0.0,
                        attention_probs_dropout_prob=0.0)
    model = BertModel(config).double().eval()
    head = torch.nn.Linear(16, 3).double()
    named = dict(model.named_parameters()) | {"head.weight": head.weight, "head.bias": head.bias}
    for p in named.values():  # away from every start, and what float holds
        p.data = (p.data + 0.3 * torch.randn_like(p)).float().double()
    batch = [[2, 7, 7, 39, 3], [2, 3], [2, 11, 5, 1, 21, 7, 30, 3]]
    labels = [0, 2, 1]
    pooled = torch.stack([model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in batch])
    loss = torch.nn.functional.cross_entropy(head(pooled), torch.tensor(labels))
    loss.backward()
    tensors = {name: p.data.float().contiguous() for name, p in named.items()}
    # the pooler has no part in it: no gradient
    tensors |= {"gradient." + name: p.grad.float().contiguous() for name, p in named.items() if p.grad is not None}
    tensors["pooled"] = pooled.detach().float().contiguous()
    save_file(tensors, folder / "tiny.safetensors", metadata={"format": "pt"})
    config_json = {k: config.to_dict()[k] for k in [*sizes, "hidden_act", "layer_norm_eps", "model_type"]}
    return config_json | {"batch": batch, "labels": labels, "loss": loss.item()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--reference", required=True, type=pathlib.Path)
    options = parser.parse_args()
    options.reference.mkdir(parents=True, exist_ok=True)

    def write(name, value):
        text = json.dumps(value, ensure_ascii=True, indent=None, separators=(",", ":"))
        (options.reference / name).write_text(text.replace("},{", "},\n{") + "\n")

    write("tiny-config.json", tiny(options.reference))
    write("sentences.json", sentences(options.model))


if __name__ == "__main__":
    main()

"""Which modules a configuration means, and with what rank and scale: our answers against PEFT's functions."""
import json
import re

from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

MODULES = ["q_proj", "model.q_proj", "model.layers.0.q_proj", "model.layers.1.q_proj", "model.layers.11.q_proj",
           "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.my_q_proj",
           "model.layers.0.mlp.experts.3.up_proj", "model.layers.3.mlp.experts.0.up_proj",
           "transformer.h.0.attn.c_attn",
           "transformer.h.1.attn.c_proj",
           "h.0.mlp.c_proj", "0.q_proj", "a.0.q_proj", "layers.1", "lm_head", "model.a+b", "model.a-b", "model.q_projx",
           "encoder.layer.0.attention.output.dense", "encoder.layer.0.output.dense", "pooler.dense",
           "x.layers.01.q_proj"]

PATTERNS = [
    {"q_proj": 2}, {"^q_proj": 2}, {"model.layers.0.q_proj": 2, "q_proj": 3}, {"1.q_proj": 2}, {r"\.q_proj": 2},
    {r".*\.q_proj": 2}, {r"model\.layers\.\d+\.q_proj": 2}, {r"layers\.(0|1)\.q_proj": 2}, {"(q|c)_(proj|attn)": 2},
    {r"layers\.1{1,2}\.q_proj": 2}, {"q_proj$": 2}, {"^model.*proj": 2}, {"[^.]+_proj": 2}, {r"h\.\w+\.attn\.c_\w+": 2},
    {"dense": 2, "output.dense": 3}, {"output.dense": 3, "dense": 2}, {"": 2}, {".*": 2}, {"layers.1": 2},
    {"Q_PROJ": 2},
    {"q_proj|c_attn": 2}, {"^q_proj|c_attn": 2}, {"c_attn|^q_proj": 2}, {"(^q_proj)": 2}, {"model.a+b": 2}, {"a+b": 2},
    {r"model\.a\+b": 2}, {"model.a-b": 2}, {r"\bq_proj": 2}, {"(?:q|k)_proj": 2}, {"(?!my)q_proj": 2},
    {"q_proj(?=x)": 2},
    {"lm_hea[a-f]": 2}, {"model.[^q]*q_proj": 2}, {"q_proj ": 2}, {"*q_proj": 2}, {"(q_proj": 2}, {"q_proj)": 2},
    {"[q_proj": 2},
]
# What Python's re and C++'s regex read differently, or only Python has: it may be refused, but not misread.
EXOTIC = [
    {r"q_proj\Z": 2}, {r"\Aq_proj": 2}, {"(?i)Q_PROJ": 2}, {"(?P<n>q)_proj": 2}, {r"(?<=\.)q_proj": 2},
    {r"layers\.(?P<i>\d)\.q_proj": 2}, {r"x{,2}q_proj": 2}, {"[]q]_proj": 2}, {"q_pro[[:alpha:]]": 2},
    {r"(.)_proj\1": 2}, {"q++_proj": 2}, {r"q_pro\j": 2}, {r"\x71_proj": 2}, {r"[\w.]*q_proj": 2}, {"q_proj{1}": 2},
    {"(?:)q_proj": 2}, {"q_proj{": 2}, {"q_proj{1,0}": 2}, {"q_proj{a}": 2}, {r"\u0071_proj": 2}, {"[q-]_proj": 2},
    {"[^]q_proj": 2}, {"[]q_proj": 2}, {r"[\]q]_proj": 2}, {"q_pro[[.j.]]": 2}, {r"\0q_proj": 2}, {r"q_proj\B": 2},
]
SELECTIONS = [
    dict(target_modules=["q_proj"]), dict(target_modules=["model.layers.0.q_proj", "lm_head"]),
    dict(target_modules=["proj"]), dict(target_modules=["dense"]), dict(target_modules=["output.dense"]),
    dict(target_modules=[]), dict(target_modules=["q_proj"], exclude_modules=["model.q_proj"]),
    dict(target_modules=["q_proj"], exclude_modules=r".*\.layers\..*"), dict(target_modules=r".*\.[qc]_(proj|attn)"),
    dict(target_modules=r"q_proj"), dict(target_modules=r"model\.layers\.\d\..*"),
    dict(target_modules=["q_proj"], layers_to_transform=[1]), dict(target_modules=["q_proj"], layers_to_transform=0),
    dict(target_modules=["q_proj", "up_proj"], layers_to_transform=[0, 3]),
    dict(target_modules=["q_proj", "up_proj"], layers_to_transform=[0, 3], layers_pattern="layers"),
    dict(target_modules=["up_proj"], layers_to_transform=[0], layers_pattern="experts"),
    dict(target_modules=["c_attn", "c_proj"], layers_to_transform=[0], layers_pattern=["h", "layers"]),
    dict(target_modules=["c_proj"], layers_to_transform=[0]), dict(target_modules=["q_proj"], layers_to_transform=[]),
    dict(target_modules=["layers.1"], layers_to_transform=[1]), dict(target_modules=["a+b"]),
    dict(target_modules="q_proj|lm_head"),
    dict(target_modules=["q_proj"], layers_to_transform=[1], layers_pattern=["layer.", "lay.rs"]),
]


def cases():
    for p in PATTERNS + EXOTIC:
        yield dict(r=8, lora_alpha=16, target_modules=["q_proj"], rank_pattern=p)
        yield dict(r=8, lora_alpha=16, target_modules=["q_proj"], alpha_pattern=p)
    for s in SELECTIONS:
        yield dict(r=8, lora_alpha=16, **s)


def selects(config, module):
    found = check_target_module_exists(config, module)
    return bool(found) and type(found).__name__ != "_ExcludedModule"


def peft_says(arguments):
    """What PEFT finds for each module, as far as the arguments speak of it; None where Python cannot read a pattern."""
    config = LoraConfig(**arguments)
    try:
        if "rank_pattern" in arguments:
            return {"rank": [config.rank_pattern.get(get_pattern_key(config.rank_pattern, m), config.r)
                             for m in MODULES]}
        if "alpha_pattern" in arguments:
            return {"alpha": [config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, m), config.lora_alpha)
                              for m in MODULES]}
        return {"selected": [int(selects(config, m)) for m in MODULES]}
    except re.error:
        return None


def table():
    rows = []
    for arguments in cases():
        pattern = arguments.get("rank_pattern", arguments.get("alpha_pattern"))
        rows.append({"config": json.dumps({"peft_type": "LORA", **arguments}), "may_refuse": pattern in EXOTIC,
                     "peft": peft_says(arguments)})
    return rows


def table_text():
    """As tests/io/peft_reference.cpp reads it."""
    rows = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in table())
    return '{"modules": %s,\n"rows": [\n%s\n]}\n' % (json.dumps(MODULES), rows)


def check(report, exchange, work):
    rows, wrong, refused = table(), [], 0
    answers = json.loads(exchange.must("names", {"cases": rows, "modules": MODULES}))
    for row, answer in zip(rows, answers):
        if "refused" in answer:
            refused += 1
            if row["peft"] is not None and not row["may_refuse"]:
                wrong.append(f"{row['config']} refused: {answer['refused']}")
        elif row["peft"] is None:
            wrong.append(f"{row['config']} accepted, Python refuses it")
        else:
            for what, theirs in row["peft"].items():
                differ = [f"{m} {a}, not {b}" for m, a, b in zip(MODULES, answer[what], theirs) if a != b]
                if differ:
                    wrong.append(f"{row['config']}: {what} of {len(differ)} modules, {differ[0]}")
    report.true(f"ranks, scales, targets of {len(MODULES)} names under {len(rows)} configurations, {refused} refused",
                not wrong, "\n    ".join([""] + wrong))

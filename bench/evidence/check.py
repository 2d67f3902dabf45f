"""The report against the plan and the records."""
import json
import os
import sys

import plan
from report import Builder
from verdicts import comparisons, mean_sd


def check(args, settings, records):
    """Every planned item has a record or is in failed or not_run; means and verdicts follow from the values."""
    evidence = json.load(open(os.path.join(args.results, "evidence.json")))
    builder, wrong = Builder(settings, records), []
    failed = {f["id"] for f in evidence["failed"]}
    absent = {i for n in evidence["not_run"] for i in n["ids"]}
    count = 0
    for stage, items in builder.planned.items():
        for item in items:
            count += 1
            places = [item["id"] in records and "error" not in records[item["id"]], item["id"] in failed, item["id"] in absent]
            if sum(places) != 1:
                wrong.append(f"{stage}: {item['id']} is in {sum(places)} of records, failed, not_run")
    shown = {(r["protocol"], r["method"], r["set"], r["metric"]) for r in evidence["table"]}
    for protocol, rate in builder.protocols().items():
        for m in plan.METHODS:
            for s in plan.SETS:
                items = [builder.item(m, s, rate(m), seed) for seed in plan.SEEDS]
                for metric in ("loss", "accuracy"):
                    if (protocol, m, s, metric) not in shown and not all(i["id"] in absent for i in items):
                        wrong.append(f"table: no row for {protocol} {m} {s} {metric}")
    for name in ("table", "averages", "ablation", "directions", "batch", "coverage", "ranks", "epochs"):
        for row in evidence[name]:
            mean, sd = mean_sd(row["values"])
            expected = (None, None) if row.get("diverged") else (mean, sd)
            if row["mean"] != expected[0] or row.get("sd", expected[1]) != expected[1] or len(row["values"]) != len(row["seeds"]):
                wrong.append(f"{name}: {row.get('method')} {row['set']}: mean and sd do not follow from the values")
    if comparisons(evidence["table"]) != evidence["comparisons"]:
        wrong.append("comparisons do not follow from the table")
    if wrong:
        sys.exit("check failed:\n  " + "\n  ".join(wrong))
    print(f"check: {count} items planned, {len(absent)} not run, {len(failed)} failed; every other has its record, and all means follow")

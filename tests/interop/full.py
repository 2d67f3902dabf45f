"""The comparison with PEFT, in a table.

    full.py --exchange PROGRAM --bytes PROGRAM --programs FOLDER --work EMPTY_FOLDER --reference FOLDER [--update]

PROGRAM are exchange.cpp and bytes.cpp, compiled; FOLDER holds loraga_adapter and loraga_init. Results go to WORK/table.txt, the reference made anew to
WORK/reference; --update makes that the committed one.
"""
import argparse
import os
import shutil
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")  # PEFT's advice; open_adapter looks at what it says of names

import from_peft
import names
import parity
import reference
import to_peft
import tools
import torch_bytes
import whole_models
from models import Exchange
from report import Report


def main():
    parser = argparse.ArgumentParser()
    for name in ["--exchange", "--bytes", "--programs", "--work", "--reference"]:
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    report, work = Report(), options.work.resolve()
    exchange = Exchange(options.exchange.resolve(), work)
    for part in [to_peft, from_peft, parity, names]:
        (work / part.__name__).mkdir()
        part.check(report, exchange, work / part.__name__)
    (work / "whole_models").mkdir()
    whole_models.check(report, options.programs.resolve(), work / "whole_models")
    (work / "tools").mkdir()
    tools.check(report, options.programs.resolve(), work / "tools")
    torch_bytes.check(report, options.bytes.resolve(), work)
    fresh = work / "reference"
    (work / "making").mkdir()
    reference.make(exchange, fresh, work / "making")
    committed = options.reference.resolve()
    if options.update:
        for part in fresh.iterdir():
            if part.is_dir():
                shutil.rmtree(committed / part.name, ignore_errors=True)
                shutil.copytree(part, committed / part.name)
            else:
                shutil.copy(part, committed)
    reference.check(report, exchange, committed, fresh, work)
    (work / "table.txt").write_text(report.text())
    print(report.text(), end="")
    return report.failed()


if __name__ == "__main__":
    sys.exit(main())

"""Writes a report of one or more runs, one HTML page that needs no server and no network.

    mlp-mixer report WORKDIR... [--out=report.html] [--price-per-hour=1.20]

It says what was trained on what, by which command and versions; shows curves, evaluations, errors,
the confusion matrix, and token-mixing filters before and after training; gives throughput, time,
memory and cost where they are known; and lists the fields in which configs of several runs differ.

Each run is evaluated once more on its own test data, for its errors; --no-evaluation leaves that
out. The price is that of one device as JAX counts them: a chip of a TPU, or a core of v2, v3 and
tpu7x.
"""

import argparse

from mlp_mixer.analysis.report import report
from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import file_to_write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument(
        "--out", type=file_to_write, default="report.html", metavar="FILE", help="page to write"
    )
    parser.add_argument(
        "--price-per-hour", type=float, metavar="PRICE", help="of one device, in any currency"
    )
    parser.add_argument(
        "--no-evaluation", action="store_true", help="leave out errors and confusion matrices"
    )


def main(args: argparse.Namespace) -> None:
    found = report(
        args.workdirs, evaluated=not args.no_evaluation, price_per_hour=args.price_per_hour
    )
    found.save(args.out)
    output.note(f"report in {args.out}")

"""What a run in a bucket costs: requests and bytes, and the training thread's time.

    python -m benchmarks.bucket_cost [--variant=S/32] [--rounds=5] [--delay=0.05]

Starts a bucket on this machine, behind a proxy that counts requests. The first table is what one
checkpoint, one report of metrics and one heartbeat of the lock send, and what that costs at
Google's price for requests to a regional bucket of the class Standard (October 2026: 0.05 dollars
for 10,000 of class A, which write and list, 0.004 for those of class B, which read; check today's).
Storage and traffic out of the region come on top.

The second is how long the training thread waits when every request takes so many seconds longer:
for a save, beside that of Orbax alone in the same bucket in turns, and for a report.
"""

import argparse
import collections
import logging
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import orbax.checkpoint as ocp

from benchmarks.save_time import make_state
from mlp_mixer.cli.output import table
from mlp_mixer.runs import lock, metrics
from mlp_mixer.runs.checkpointer import Checkpointer
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.runtime import storage
from tests.bucket import Proxy, serving

DOLLARS = {"A": 0.05 / 10_000, "B": 0.004 / 10_000}
REPORT = {"train/loss": 1.0, "train/accuracy": 0.5, "train/lr": 1e-3, "train/grad_norm": 1.0,
          "train/images_per_second_per_device": 1.0, "train/seconds_left": 1.0}  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="S/32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds, of each request")
    return parser.parse_args()


def counted(proxy: Proxy, what: str, function: Callable[[], Any]) -> tuple[str, ...]:
    """A row of the first table."""
    proxy.forget()
    function()
    counts: collections.Counter = proxy.counts
    of_class = {"A": counts["write"] + counts["list"], "B": counts["read"]}
    dollars = sum(DOLLARS[name] * count for name, count in of_class.items())
    return (
        what, str(of_class["A"]), str(of_class["B"]), str(counts["delete"]),
        f"{proxy.sent / 2**20:.2f}", f"{proxy.received / 2**20:.2f}", f"{dollars:.6f}",
    )  # fmt: skip


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def requests(proxy: Proxy, state: TrainState) -> list[tuple[str, ...]]:
    workdir = storage.as_path("gs://runs/requests")
    size = sum(x.nbytes for x in jax.tree.leaves(state)) / 2**20
    rows = []
    with lock.hold(workdir) as held, Checkpointer(workdir, check_lock=held.check) as run:
        run.save(1, state)
        run.wait()

        def save() -> None:
            run.save(2, state)
            run.wait()

        rows.append(counted(proxy, f"a checkpoint of {size:.0f} MiB, and deleting the last", save))
        writer = metrics.Writer(workdir, 0, held.check)
        writer.scalars(1, REPORT)
        writer.flush()

        def report() -> None:
            writer.scalars(2, REPORT)
            writer.flush()

        rows.append(counted(proxy, "a report: metrics.jsonl and events", report))
        rows.append(counted(proxy, "a heartbeat", held.beat))
        writer.close()
    return rows


def waiting(proxy: Proxy, state: TrainState, args: argparse.Namespace) -> list[tuple[str, ...]]:
    """Rows of the second table: medians of the rounds after the first, and their range."""
    top = storage.as_path("gs://runs/waiting")
    times: dict[str, list[float]] = collections.defaultdict(list)
    items = {"params": state.params, "opt_state": state.opt_state}
    proxy.delay = args.delay
    for number in range(args.rounds + 1):
        with ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler()) as orbax:
            wanted = ocp.args.Composite(
                **{name: ocp.args.StandardSave(item) for name, item in items.items()}
            )
            folder = top / f"orbax{number}"
            times["a save, Orbax alone"].append(seconds(partial(orbax.save, folder, args=wanted)))
        with Checkpointer(top / f"ours{number}") as run:
            times["a save, verified, with digests"].append(seconds(partial(run.save, 1, state)))
        writer = metrics.Writer(top / f"ours{number}", 0)
        for step in range(1, 11):
            times["a report"].append(seconds(partial(writer.scalars, step, REPORT)))
        writer.close()
    proxy.delay = 0.0
    rows = []
    for name, found in times.items():
        later = found[len(found) // (args.rounds + 1) :]  # the first round compiles
        rows.append(
            (name, f"{statistics.median(later):.4f}", f"{min(later):.4f} to {max(later):.4f}")
        )
    alone, ours = (times[name][1:] for name in list(times)[:2])
    ratios = [b / a for a, b in zip(alone, ours, strict=True)]
    rows.append(("ours, of Orbax's", f"{statistics.median(ratios):.2f}",
                 f"{min(ratios):.2f} to {max(ratios):.2f}"))  # fmt: skip
    return rows


def main() -> None:
    for name in ("absl", "mlp_mixer"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    args = parse()
    state = make_state(args.variant)
    with serving() as proxy:
        heads = ("", "class A", "class B", "deletes", "MiB sent", "MiB received", "dollars")
        print(table([heads, *requests(proxy, state)]))
        print(f"\nseconds that the training thread waits, {1000 * args.delay:.0f} ms a request")
        print(table([("", "median", "range"), *waiting(proxy, state, args)]))


if __name__ == "__main__":
    main()

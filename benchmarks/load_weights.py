"""Time and memory for reading weights: mlp_mixer.load, numpy.load and big_vision's loader.

    python benchmarks/load_weights.py Mixer-B_16.npz [--big-vision PATH-OF-ITS-CHECKOUT]

All three read the same file; the readers take turns in one process, after a first round that is not
counted, so the file is in memory. Peak memory is how much the largest resident size of a fresh
process grows while it reads and keeps the result. big_vision needs TensorFlow; without it, or
without a checkout, its rows are left out.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mlp_mixer
from mlp_mixer.cli import output


def with_numpy(path: str) -> Any:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def big_vision_reader(checkout: str | None) -> Callable[[str], Any] | None:
    if checkout is None:
        return None
    sys.path.insert(0, checkout)
    try:
        from big_vision.models import mlp_mixer as theirs
    except ImportError as error:
        print(f"big_vision is left out: {error}")
        return None
    return lambda path: theirs.load(None, path, None)


def readers(checkout: str | None) -> dict[str, Callable[[str], Any]]:
    found = {"numpy.load": with_numpy, "mlp_mixer.load": mlp_mixer.load}
    theirs = big_vision_reader(checkout)
    return found | ({"big_vision": theirs} if theirs else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--big-vision")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    path = str(Path(args.path).absolute())
    size = Path(path).stat().st_size
    seconds: dict[str, list[float]] = {name: [] for name in readers(args.big_vision)}
    for _ in range(args.rounds + 1):
        for name, read in readers(args.big_vision).items():
            begin = time.perf_counter()
            read(path)
            seconds[name].append(time.perf_counter() - begin)
    # Each round's ratio, so that what slows the machine down for a while counts for both.
    base = seconds["numpy.load"][1:]
    rows = [("reader", "median s", "fastest s", "ratio to numpy", "peak memory / file")]
    for name, times in seconds.items():
        ratio = statistics.median(t / b for t, b in zip(times[1:], base, strict=True))
        peak = peak_memory(name, path, args.big_vision) / size
        fastest = min(times[1:])
        rows.append(
            (
                name,
                f"{statistics.median(times[1:]):.3f}",
                f"{fastest:.3f}",
                f"{ratio:.2f}",
                f"{peak:.2f}",
            )
        )
    print(f"{path}: {size:,} bytes, {args.rounds} rounds\n" + output.table(rows))


def peak_memory(name: str, path: str, checkout: str | None) -> int:
    """Bytes by which a fresh process grows at most."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(name, path, checkout, send))
    process.start()
    grown = receive.recv()
    process.join()
    return grown


def _measure(name: str, path: str, checkout: str | None, send: Any) -> None:
    read = readers(checkout)[name]
    Path("/proc/self/clear_refs").write_text("5")  # forgets the largest size so far
    before = _status("VmRSS")
    kept = read(path)
    send.send(_status("VmHWM") - before)
    del kept


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()

"""Few-shot least squares at ImageNet's size: ours, big_vision's and scikit-learn's, in turns.

    python -m benchmarks.fewshot [--big-vision CHECKOUT] [--shots 5] [--width 768]

Features are random, each class around a mean of its own: `shots` of each of 1,000 classes to fit,
50,000 to classify. Prints accuracies, seconds for fit and test together, medians of rounds, and
their ratio to ours; and how far outputs are from those of scikit-learn's ridge regression in
float64. big_vision's solver is its own code, in float32, with nothing else of it imported.
"""

import argparse
import functools
import importlib
import statistics
import sys
import time
import types
from collections.abc import Callable

import jax
import numpy as np
from sklearn.linear_model import Ridge

from mlp_mixer.cli import output
from mlp_mixer.evaluation import fewshot

CLASSES, TEST = 1000, 50_000


def make_features(shots: int, width: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    means = rng.normal(0, 1, (CLASSES, width))

    def draw(labels: np.ndarray) -> np.ndarray:
        return (2 + means[labels] + rng.normal(0, 3, (len(labels), width))).astype(np.float32)

    train, test = np.repeat(np.arange(CLASSES), shots), rng.integers(0, CLASSES, TEST)
    return draw(train), train, draw(test), test


def ours(x: np.ndarray, y: np.ndarray, new: np.ndarray, new_y: np.ndarray) -> float:
    return fewshot.accuracy(*fewshot.fit(x, y, CLASSES), new, new_y)


def ridge_outputs(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    mean, deviation = x.mean(0), x.std(0) + 1e-5

    def prepare(features: np.ndarray) -> np.ndarray:
        return np.pad((features - mean) / deviation, ((0, 0), (0, 1)), constant_values=100.0)

    ridge = Ridge(alpha=1024, fit_intercept=False, solver="cholesky")
    return ridge.fit(prepare(x), 2 * np.eye(CLASSES)[y] - 1).predict(prepare(new))


def scikit_learn(x: np.ndarray, y: np.ndarray, new: np.ndarray, new_y: np.ndarray) -> float:
    return float((ridge_outputs(x, y, new).argmax(-1) == new_y).mean())


def big_vision_solver(checkout: str) -> Callable:
    sys.path.insert(0, checkout)
    for name in ("datasets.core", "input_pipeline", "pp.builder", "utils"):
        parent, _, leaf = f"big_vision.{name}".rpartition(".")
        module = sys.modules[f"big_vision.{name}"] = types.ModuleType(name)
        setattr(importlib.import_module(parent), leaf, module)
    utils = vars(sys.modules["big_vision.utils"])
    utils["jit_cpu"] = lambda **fields: functools.partial(jax.jit, **fields)
    theirs = importlib.import_module("big_vision.evaluators.fewshot_lsr")

    def solve(x: np.ndarray, y: np.ndarray, new: np.ndarray, new_y: np.ndarray) -> float:
        cache = theirs._precompute_cache(x, y, CLASSES)
        return float(theirs._eig_fewshot_acc_fn(cache, new, new_y, 1024.0))

    return solve


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--big-vision", metavar="CHECKOUT")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    data = make_features(args.shots, args.width)
    solvers = {"ours": ours, "scikit-learn": scikit_learn}
    if args.big_vision:
        solvers["big_vision"] = big_vision_solver(args.big_vision)
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    accuracies = {}
    for number in range(args.rounds + 1):
        for name, solver in solvers.items():
            begin = time.perf_counter()
            accuracies[name] = solver(*data)
            if number:  # the first round compiles and warms up
                seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = [("solver", "accuracy", "seconds", "ratio")]
    for name, median in medians.items():
        ratio = median / medians["ours"]
        rows.append((name, f"{accuracies[name]:.3%}", f"{median:.2f}", f"{ratio:.2f}"))
    print(output.table(rows))
    x, y, new, _ = data
    weights, bias = fewshot.fit(x, y, CLASSES)
    apart = np.abs(new[:2000] @ weights + bias - ridge_outputs(x, y, new[:2000])).max()
    print(f"outputs at most {apart:.1e} from scikit-learn's")


if __name__ == "__main__":
    main()

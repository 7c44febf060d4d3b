"""Breaks the code one line at a time, and shows what no test notices.

    python -m benchmarks.mutations [--only WORDS...] [--jobs 2]

Applies each mutation of mutation_list/ in a copy of this tree and runs the tests that belong to
it, which pass without it (that is checked first). Prints a line for each, and at the end those that
survived: of these a test is missing. The exit status is 1 if there are any. All of it takes about
half an hour on two CPU cores; --only takes mutations whose description, file or tests contain one
of the words, such as `--only metrics.py split`.
"""

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.mutation_list import MUTATIONS, Mutation

ROOT = Path(__file__).parent.parent
LEFT_BEHIND = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info")
LEFT_BEHIND_AT_THE_TOP = {".git", ".venv", "runs", "demo", "build"}
TIMEOUT = 900  # seconds, after which tests hang: that is noticed, too
NOTICED, SURVIVED, ERROR = "noticed", "SURVIVED", "ERROR"


class Verdict(NamedTuple):
    """What became of a run of tests, the last line that says why, and how long it took."""

    outcome: str
    reason: str
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORDS", help="which mutations")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    args = parser.parse_args()
    chosen = [
        mutation
        for mutation in MUTATIONS
        if any(word in " ".join((mutation.breaks, mutation.file, mutation.tests))
               for word in args.only)
    ]  # fmt: skip
    problems = [problem for mutation in chosen if (problem := misfit(mutation))]
    if problems:
        print("\n".join(problems))
        return 1
    with tempfile.TemporaryDirectory() as folder:
        copies = queue.Queue()
        for number in range(args.jobs):
            copies.put(shutil.copytree(
                ROOT, Path(folder) / str(number), ignore=left_behind
            ))  # fmt: skip
        # Without a mutation all has to pass; this also compiles what the others then find.
        unmutated = dict.fromkeys(mutation.tests for mutation in chosen)
        print(f"{len(unmutated)} sets of tests on the code as it is")
        passed = _each(unmutated, lambda tests: _run_tests(tests, copies), args.jobs)
        failed = [tests for tests, verdict in passed.items() if verdict.outcome != SURVIVED]
        if failed:
            print("these fail on the code as it is:", *failed, sep="\n  ")
            return 1
        print(f"\n{len(chosen)} mutations")
        found = _each(chosen, lambda mutation: _run_mutated(mutation, copies), args.jobs)
    left = {m: verdict for m, verdict in found.items() if verdict.outcome != NOTICED}
    print(f"\n{len(found) - len(left)} of {len(found)} were noticed")
    for mutation, verdict in left.items():
        print(f"{verdict.outcome}: {mutation.breaks}\n  {mutation.file}: {mutation.new.strip()}\n"
              f"  {mutation.tests}: {verdict.reason}")  # fmt: skip
    return int(bool(left))


def left_behind(folder: str, names: list[str]) -> set[str]:
    """What of a folder is not copied."""
    at_the_top = LEFT_BEHIND_AT_THE_TOP if Path(folder) == ROOT else set()
    return LEFT_BEHIND(folder, names) | (at_the_top & set(names))


def misfit(mutation: Mutation, root: Path = ROOT) -> str:
    """Why a mutation does not fit the code, in a line; "" where it does."""
    count = (root / mutation.file).read_text().count(mutation.old)
    if count != 1:
        return f"{mutation.file} has {mutation.old!r} {count} times, not once ({mutation.breaks})"
    missing = [word for word in mutation.tests.split() if word.startswith("tests/")
               and not (root / word).exists()]  # fmt: skip
    return f"there is no {', '.join(missing)} ({mutation.breaks})" if missing else ""


def _each(items: Iterable, run: Callable, jobs: int) -> dict:
    """run(item) of each, with a line as soon as it is there."""
    items, verdicts = list(items), {}

    def run_one(item) -> None:
        verdict = verdicts[item] = run(item)
        what = item.breaks if isinstance(item, Mutation) else item
        outcome = verdict.outcome if isinstance(item, Mutation) else ""
        print(f"{len(verdicts):3}/{len(items)} {verdict.seconds:4.0f} s  {outcome:8}  {what}"
              f"  ({verdict.reason})", flush=True)  # fmt: skip

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run_one, items))  # raises what one of them raised
    return {item: verdicts[item] for item in items}


def _run_mutated(mutation: Mutation, copies: queue.Queue) -> Verdict:
    copy = copies.get()
    try:
        path = copy / mutation.file
        text = path.read_text()
        path.write_text(text.replace(mutation.old, mutation.new))
        try:
            return _pytest(mutation.tests, copy)
        finally:
            path.write_text(text)
    finally:
        copies.put(copy)


def _run_tests(tests: str, copies: queue.Queue) -> Verdict:
    copy = copies.get()
    try:
        return _pytest(tests, copy)
    finally:
        copies.put(copy)


def _pytest(tests: str, copy: Path) -> Verdict:
    arguments = ["-n", "0", "-x", "-p", "no:cacheprovider", "--tb=line", *_split(tests)]
    # A file that changes twice in a second would not be compiled anew. And all runs share what they
    # compile for the device: mutations change few of their programs.
    settings = {
        "PYTHONDONTWRITEBYTECODE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(copy.parent / "compiled"),
    }
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments], cwd=copy, env=os.environ | settings,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)  # with all that the tests have started
        process.communicate()
        return Verdict(NOTICED, f"no end after {TIMEOUT} s", TIMEOUT)
    outcome = {0: SURVIVED, 1: NOTICED}.get(process.returncode, ERROR)
    lines = [line for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("FAILED", "ERROR"))] or lines[-1:]
    return Verdict(outcome, telling[0][:160] if telling else "", time.monotonic() - start)


def _split(tests: str) -> list[str]:
    """Arguments of pytest; what follows -k is one of them."""
    paths, _, words = tests.partition(" -k ")
    return [*paths.split(), *(["-k", words] if words else [])]


if __name__ == "__main__":
    sys.exit(main())

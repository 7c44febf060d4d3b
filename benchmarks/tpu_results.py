"""Programs compiled for the TPU benchmarks, kept in a file, because each takes minutes of CPU time.

A program that is used again is not compared with the code: what is printed says which commit and
which compiler it is of. Delete the file, or a part of it, to compile again.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlp_mixer.planning import compiler, hlo


def kept(path: Path, name: str, function: Callable[..., Any], *args: Any) -> compiler.Program:
    """The program of this name in the file; function(*args) in a process of its own if it is new.

    A program that the compiler refuses is not kept.
    """
    results = json.loads(path.read_text()) if path.exists() else {}
    if name not in results:
        print(f"compiling {name}", file=sys.stderr, flush=True)
        made = compiler.isolated(function, *args)
        program = made[0] if isinstance(made, tuple) else made
        results[name] = asdict(program) | {"of": _origin()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    fields = dict(results[name])
    print(f"{name} is of {fields.pop('of', 'unknown code')}, kept in {path}", file=sys.stderr)
    fields["collectives"] = tuple(hlo.Collective(**c) for c in fields["collectives"])
    return compiler.Program(**fields)


def _origin() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    return f"commit {commit or 'unknown'}, jax {version('jax')}, libtpu {version('libtpu')}"

"""Programs compiled for the TPU benchmarks, kept in a file, because each takes minutes of CPU time.

Delete the file, or a line of it, to compile again.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlp_mixer.analysis.tpu import compile, hlo


def kept(path: Path, name: str, function: Callable[..., Any], *args: Any) -> compile.Program:
    """The program of this name in the file; function(*args) in a process of its own if it is new.

    A program that the compiler refuses is not kept.
    """
    results = json.loads(path.read_text()) if path.exists() else {}
    if name not in results:
        print(f"compiling {name}", file=sys.stderr, flush=True)
        made = compile.isolated(function, *args)
        results[name] = asdict(made[0] if isinstance(made, tuple) else made)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    fields = dict(results[name])
    fields["collectives"] = tuple(hlo.Collective(**c) for c in fields["collectives"])
    return compile.Program(**fields)

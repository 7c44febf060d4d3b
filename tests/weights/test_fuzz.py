"""Random damage; benchmarks/fuzz_weights.py does more of it."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz_weights.py"


def test_no_mutation_crashes_or_loads_other_weights(tmp_path):
    spec = importlib.util.spec_from_file_location("fuzz_weights", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    results = list(script.fuzz(tmp_path, mutations=200, seed=0))
    assert len(results) == 200
    assert [r[:3] for r in results if r[2] not in script.OUTCOMES] == []

"""MLP-Mixer (arXiv 2105.01601) on JAX: pretrain, transfer, and use the published weights.

    classifier = mlp_mixer.load_classifier("imagenet1k/Mixer-B_16")  # or a file, or a workdir
    classifier.classify("cat.jpg", top=3)

    module, params = mlp_mixer.load("imagenet21k/Mixer-B_16")
    logits = module.apply({"params": params}, images)  # float [n, 224, 224, 3] in [-1, 1]

    run = mlp_mixer.train(mlp_mixer.config("digits"), "runs/digits")
    run.curves()

These names are the public API; each is imported from its module when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

try:
    import fcntl  # noqa: F401
except ImportError:
    raise ImportError("mlp_mixer runs on Linux and macOS; on Windows use WSL") from None

from mlp_mixer.runtime import xla_flags

__version__ = "0.2.0"

xla_flags.avoid_stale_products()

if TYPE_CHECKING:
    from mlp_mixer.analysis.curves import draw as curves
    from mlp_mixer.analysis.filters import draw as filters
    from mlp_mixer.analysis.permutation import read_experiment as permutation
    from mlp_mixer.analysis.push import push
    from mlp_mixer.analysis.report import report
    from mlp_mixer.analysis.robustness import measure as robustness
    from mlp_mixer.analysis.sharpness import measure as sharpness
    from mlp_mixer.analysis.sheet import confusion, sheet
    from mlp_mixer.data.prepare.prepare import prepare
    from mlp_mixer.inference.classifier import Classifier, load_classifier
    from mlp_mixer.inference.export import export
    from mlp_mixer.inference.measure import evaluate, few_shot
    from mlp_mixer.models.init import init
    from mlp_mixer.models.mixer import MlpMixer, create, list_variants
    from mlp_mixer.planning.plan import plan
    from mlp_mixer.run import Run, config, train
    from mlp_mixer.training.sweep import sweep
    from mlp_mixer.weights.convert import convert
    from mlp_mixer.weights.describe import describe as inspect
    from mlp_mixer.weights.load import load
    from mlp_mixer.weights.pretrained import list_pretrained
    from mlp_mixer.weights.resize import resize
    from mlp_mixer.weights.save import save

# Public name -> its module, and its name there.
_HOMES = {
    "Classifier": ("inference.classifier", "Classifier"),
    "MlpMixer": ("models.mixer", "MlpMixer"),
    "Run": ("run", "Run"),
    "config": ("run", "config"),
    "confusion": ("analysis.sheet", "confusion"),
    "convert": ("weights.convert", "convert"),
    "create": ("models.mixer", "create"),
    "curves": ("analysis.curves", "draw"),
    "evaluate": ("inference.measure", "evaluate"),
    "export": ("inference.export", "export"),
    "few_shot": ("inference.measure", "few_shot"),
    "filters": ("analysis.filters", "draw"),
    "init": ("models.init", "init"),
    "inspect": ("weights.describe", "describe"),
    "list_pretrained": ("weights.pretrained", "list_pretrained"),
    "list_variants": ("models.mixer", "list_variants"),
    "load": ("weights.load", "load"),
    "load_classifier": ("inference.classifier", "load_classifier"),
    "permutation": ("analysis.permutation", "read_experiment"),
    "plan": ("planning.plan", "plan"),
    "prepare": ("data.prepare.prepare", "prepare"),
    "push": ("analysis.push", "push"),
    "report": ("analysis.report", "report"),
    "resize": ("weights.resize", "resize"),
    "robustness": ("analysis.robustness", "measure"),
    "save": ("weights.save", "save"),
    "sharpness": ("analysis.sharpness", "measure"),
    "sheet": ("analysis.sheet", "sheet"),
    "sweep": ("training.sweep", "sweep"),
    "train": ("run", "train"),
}

__all__ = [
    "Classifier",
    "MlpMixer",
    "Run",
    "config",
    "confusion",
    "convert",
    "create",
    "curves",
    "evaluate",
    "export",
    "few_shot",
    "filters",
    "init",
    "inspect",
    "list_pretrained",
    "list_variants",
    "load",
    "load_classifier",
    "permutation",
    "plan",
    "prepare",
    "push",
    "report",
    "resize",
    "robustness",
    "save",
    "sharpness",
    "sheet",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, attribute = _HOMES[name]
    found = getattr(importlib.import_module(f"{__name__}.{home}"), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]

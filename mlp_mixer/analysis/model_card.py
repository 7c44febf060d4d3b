"""The model card of weights: the README.md of a repository on the Hugging Face hub.

It begins with the hub's metadata in YAML, and says what the model is, how to load it, how it was
trained, as far as its run tells, and how accurate it was.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import mlp_mixer
from mlp_mixer.analysis import run_facts
from mlp_mixer.analysis.run_facts import RunFacts, shown
from mlp_mixer.models import mixer
from mlp_mixer.runs import folder
from mlp_mixer.runs.folder import is_checkpoint
from mlp_mixer.runtime.storage import AnyPath
from mlp_mixer.weights import timm_config
from mlp_mixer.weights.hub import PREFIX, repository_of

LISTED = 20  # most class names in the text; config.json has all
RECIPE = ("batch_size", "optimizer", "lr", "decay", "decay_end", "warmup_steps", "warmup_epochs",
          "weight_decay", "layer_decay", "grad_clip", "loss", "label_smoothing", "mixup", "cutmix",
          "ema", "teacher")  # fmt: skip
DROP_SCHEDULE = ("drop_schedule", "drop_steps", "drop_epochs")
COLOURS = {1: "grey", 3: "RGB"}  # by number of channels
CITATION = "[arXiv 2105.01601](https://arxiv.org/abs/2105.01601)"


class Accuracy(NamedTuple):
    """An accuracy: the name of the data, its split if that is known, and top-1 from 0 to 1."""

    data: str
    split: str
    top1: float


@dataclass(frozen=True)
class Model:
    """What a card describes.

    Attributes:
        address: from where it will be loaded: of a repository on the hub, or a folder.
        module: the Mixer.
        said: what its file says of its use; see `weights.metadata`.
        run: the run that trained it; None if it is not known.
        step: the step of the run that the weights are of; None if it is not known.
        is_average: whether they are the moving average of the run's parameters.
        stated: accuracies that the user gives.
        license: likewise.
    """

    address: str
    module: mixer.MlpMixer
    said: Mapping[str, Any]
    run: RunFacts | None
    step: int | None
    is_average: bool
    stated: Sequence[Accuracy]
    license: str | None

    @property
    def name(self) -> str:
        """What it is called: the last part of its address."""
        return repository_of(self.address).name.rstrip("/").rpartition("/")[2]

    @property
    def accuracies(self) -> list[Accuracy]:
        """Those that the run has measured of these weights, then those that are stated."""
        measured = _measured(self.run, self.step, self.is_average) if self.run else []
        return [*measured, *self.stated]


def step_of(run: RunFacts, weights: AnyPath) -> int | None:
    """Returns the step that weights of a run are of, a checkpoint or its model.npz."""
    if is_checkpoint(weights):
        return int(weights.name)
    finished = run.workdir / folder.FINISHED_FILE
    if finished.exists():
        return int(finished.read_text().split()[0])
    return run.step if folder.is_finished(run.workdir) else None


def write(model: Model) -> str:
    """Writes the card, with its metadata."""
    parts = [
        f"# {model.name}",
        _what(model),
        "## Use",
        _use(model),
        "## Accuracy",
        _accuracy(model),
        "## Training",
        _training(model),
        "## Model",
        _model(model),
        "## Licence",
        model.license or "None was given: ask the author before you use the weights.",
    ]
    return f"---\n{_metadata(model)}\n---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(model: Model) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    task = "image-classification" if model.module.num_classes else "image-feature-extraction"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=re.sub(r"[^a-z0-9]+", "-", each.data.lower()).strip("-") or "unknown",
            dataset_name=each.data,
            dataset_split=each.split or None,
            metric_type="accuracy",
            metric_value=round(each.top1, 6),
            metric_name="top-1 accuracy",
        )
        for each in model.accuracies
    ]
    config = model.run.config if model.run else None
    start = str(config.init_from) if config else ""
    tags = ["mlp-mixer", task, "jax", "flax"]
    if timm_config.architecture_of(model.module):
        tags.append("timm")
    data = ModelCardData(
        license=model.license,
        library_name="mlp_mixer",
        pipeline_tag=task,
        tags=tags,
        datasets=_on_the_hub(config.data.source) if config else None,
        base_model=repository_of(start).name if start.startswith(PREFIX) else None,
        model_name=model.name,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _on_the_hub(source: str) -> str | None:
    """Returns the hub's name of a data source, if it is there."""
    found = re.fullmatch(r"hf:([\w-][\w.-]*/[\w.-]+)(/[\w.-]+)?", source)
    return found[1] if found and not Path(source.removeprefix("hf:")).is_dir() else None


def _what(model: Model) -> str:
    module = model.module
    variant = mixer.variant_of(module)
    size = f"Mixer-{variant}" if variant else "Mixer"
    classes = f" and {module.num_classes:,} classes" if module.num_classes else ", without a head"
    return (
        f"A {size} (MLP-Mixer, {CITATION}) for images of {shown(module.image_size)} pixels"
        f"{classes}, written by mlp_mixer {mlp_mixer.__version__}."
    )


def _use(model: Model) -> str:
    where = model.address
    lines = [
        f'classifier = mlp_mixer.load_classifier("{where}")',
        'classifier.classify("photo.jpg", top=3)',
    ]
    if not model.module.num_classes:
        lines = [
            f'module, params = mlp_mixer.load("{where}")',
            'features = module.apply({"params": params}, images)  # pixels in [-1, 1]',
        ]
    return _python("import mlp_mixer", "", *lines) + "\n\n" + _in_timm(model)


def _in_timm(model: Model) -> str:
    if not (architecture := timm_config.architecture_of(model.module)):
        return (
            "timm has no architecture of this size, but its class `MlpMixer` reads "
            "`model.safetensors` with the arguments `model_args` of `config.json`."
        )
    is_hub = model.address.startswith(PREFIX)
    where = (
        f"hf-hub:{repository_of(model.address).name}" if is_hub else f"local-dir:{model.address}"
    )
    if model.module.gelu == "exact":
        return f"timm's {architecture} gives the same logits:\n\n" + _python(
            "import timm", "", f'model = timm.create_model("{where}", pretrained=True).eval()'
        )
    return (
        f"timm's {architecture} gives the same logits with the GELU that these weights were "
        "trained with, which it has to be told:\n\n"
    ) + _python(
        "import functools, timm, torch",
        "",
        'gelu = functools.partial(torch.nn.GELU, approximate="tanh")',
        f'model = timm.create_model("{where}", pretrained=True, act_layer=gelu).eval()',
    )


def _accuracy(model: Model) -> str:
    if not model.accuracies:
        return "Not evaluated."
    rows = [(each.data, each.split or "-", f"{each.top1:.2%}") for each in model.accuracies]
    return _table(("data", "split", "top-1"), *rows)


def _measured(run: RunFacts, step: int | None, of_average: bool) -> list[Accuracy]:
    """Returns the accuracies that a run's metrics have of a step."""
    prefix = folder.AVERAGE_PREFIX if of_average else ""
    scalars: dict[str, float] = {}
    for line in run.lines:
        if line["step"] == step:
            scalars |= line
    return [
        Accuracy(each.get("source") or run.config.data.source, each.split, scalars[scalar])
        for name, each in run.config.evals.items()
        if each.type == "classification" and (scalar := f"{prefix}{name}/accuracy") in scalars
    ]


def _training(model: Model) -> str:
    run = model.run
    if run is None:
        history = model.said.get("history", [])
        first = f"The first file was `{_cell(history[0]['source'])}`. " if history else ""
        return first + "How it was trained is not recorded."
    config = run.config
    steps = run_facts.UNKNOWN if model.step is None else f"{model.step:,}"
    if model.is_average:
        steps += ", of which the parameters are averaged"
    if model.step and run.examples:
        steps += f", {model.step * config.batch_size / run.examples:.3g} epochs"
    recipe = {name: config[name] for name in RECIPE}
    recipe |= {name: config.model.get(name) for name in ("dropout_rate", "stoch_depth")}
    if config.drop_schedule != "constant":
        recipe |= {name: config[name] for name in DROP_SCHEDULE}
    if config.sam.rho_max:
        recipe |= {f"sam.{name}": value for name, value in config.sam.items()}
    changes = config.augment.to_dict()
    if not changes["randaugment_layers"]:
        del changes["randaugment_form"]
    augment = ", ".join(f"{name} {shown(x)}" for name, x in sorted(changes.items()) if x)
    command = str(run.trainings[-1].get("command", run_facts.UNKNOWN)) if run.starts else ""
    rows = [
        ("data", run_facts.data(run)),
        ("started from", config.init_from or f"random parameters, seed {config.seed}"),
        ("steps", steps),
        ("recipe", ", ".join(f"{name} {shown(value)}" for name, value in recipe.items() if value)),
        ("augmentation", augment or "none"),
        ("command", f"`{command}`" if command else run_facts.UNKNOWN),
        ("devices", run_facts.devices(run)),
        ("time", run_facts.time(run)[1]),
        ("versions", run_facts.versions(run)),
    ]
    whole = json.dumps(folder.read_config(run.workdir), indent=1)
    return (
        _table(("", ""), *rows)
        + "\n\n<details><summary>The whole config</summary>\n\n"
        + f"```json\n{whole}\n```\n\n</details>"
    )


def _model(model: Model) -> str:
    module, said = model.module, model.said
    fraction = said.get("crop_fraction", 0.875)
    cover = shown(tuple(round(side / fraction) for side in module.image_size))
    how = {
        "resmall": f"resized until it just covers {cover} pixels, keeping its aspect ratio",
        "resize": f"resized to {cover} pixels",
    }[said.get("crop", "resmall")]
    rows = [
        ("patches", f"{shown(module.patch_size)} pixels, {shown(module.grid)} of them"),
        ("blocks", f"{module.num_blocks} of width {module.hidden_dim}"),
        ("MLP widths", f"tokens {module.tokens_mlp_dim}, channels {module.channels_mlp_dim}"),
        ("parameters", f"{run_facts.count(module):,}"),
        ("GELU", {"tanh": "its tanh approximation", "exact": "exact"}[module.gelu]),
        ("preprocessing", f"an image is {how}; the middle {shown(module.image_size)} are cut out"),
        ("pixels", f"{COLOURS.get(module.image_channels, 'of several channels')}, x / 127.5 - 1"),
    ]
    if module.num_classes:
        rows.append(("loss", f"{said.get('loss', 'softmax')}, which makes logits probabilities"))
    if names := said.get("class_names"):
        rest = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
        rows.append(("classes", ", ".join(names[:LISTED]) + rest))
    return _table(("", ""), *rows)


def _table(*rows: Sequence[object]) -> str:
    heading, *rest = (f"| {' | '.join(map(_cell, row))} |" for row in rows)
    return "\n".join([heading, "|" + "---|" * len(rows[0]), *rest])


def _cell(x: object) -> str:
    return str(x).replace("|", "\\|").replace("\n", " ")


def _python(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])

"""A report of runs as one HTML page that needs no server, no network and no other file."""

import dataclasses
import datetime
import html
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import jax

import mlp_mixer
from mlp_mixer.analysis import curves, filters, page, run_facts, sheet
from mlp_mixer.analysis.filters import Filters
from mlp_mixer.analysis.page import Html, element
from mlp_mixer.analysis.run_facts import UNKNOWN, RunFacts, shown
from mlp_mixer.inference.measure import Evaluation, evaluate
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.runs import checkpoints
from mlp_mixer.runtime.storage import as_path, write_text
from mlp_mixer.training import fields, initial
from mlp_mixer.weights.files import is_here
from mlp_mixer.weights.load import load

log = logging.getLogger(__name__)

ERRORS = 36  # most wrong predictions that are shown
UNITS = 64  # most filters that are shown
MATRIX = 500  # most classes for which there is a confusion matrix
RECENT = 8  # evaluations that are shown without a click


@dataclass(frozen=True)
class Report:
    """A report, which a notebook shows.

    Attributes:
        workdirs: the runs.
        html: the page.
    """

    workdirs: tuple[str, ...]
    html: str = dataclasses.field(repr=False)

    def save(self, path: str | PathLike) -> None:
        """Writes the page to a file, on a disk or in a bucket."""
        write_text(as_path(path), self.html)

    def _repr_html_(self) -> str:
        # In a frame: the styles of the page must not reach the notebook, nor those the page.
        style = "width: 100%; height: 85vh; border: 1px solid #d8dce1"
        return f'<iframe srcdoc="{html.escape(self.html)}" style="{style}"></iframe>'


def report(
    workdirs: str | PathLike | Sequence[str | PathLike],
    *,
    evaluated: bool = True,
    price_per_hour: float | None = None,
) -> Report:
    """Describes one or more runs: what was trained on what and how, with what result.

    Args:
        workdirs: the runs, finished or not.
        evaluated: whether to evaluate each run once more, on its own test data, for its errors and
            its confusion matrix.
        price_per_hour: the price of one device (as JAX counts them) for an hour, in any currency.

    Raises:
        FileNotFoundError: a folder is not the workdir of a run.
        ValueError: there is no workdir, or the price is not one.
    """
    if isinstance(workdirs, str | PathLike):
        workdirs = [workdirs]
    names = tuple(dict.fromkeys(fspath(workdir) for workdir in workdirs))
    if not names:
        raise ValueError("a report needs the workdir of a run, or of several")
    if price_per_hour is not None and not 0 <= price_per_hour < math.inf:
        raise ValueError(
            f"price_per_hour is {price_per_hour}; give the price of one device, from 0"
        )
    short = curves.short_names(list(names))
    runs = [run_facts.read(workdir, short[workdir]) for workdir in names]
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    parts = [
        element("h1", title),
        element("p", f"A report of mlp_mixer {mlp_mixer.__version__}, {today}.", class_="soft"),
        _facts(runs, price_per_hour),
        *([_differences(runs)] if len(runs) > 1 else []),
        _curves(runs),
        _evaluations(runs),
    ]
    for run in runs:
        heading = [element("h2", run.name)] if len(runs) > 1 else []
        parts += [*heading, *_details(run, evaluated)]
    return Report(names, page.page(f"{title} - mlp_mixer", *parts))


def _facts(runs: list[RunFacts], price: float | None) -> Html:
    """Says in a table what each run is, one column a run."""
    facts: dict[str, Callable[[RunFacts], object]] = {
        "model": run_facts.model,
        "trained on": run_facts.data,
        "started from": lambda run: run.config.init_from or f"random, seed {run.config.seed}",
        "progress": run_facts.progress,
        "command": lambda run: (
            _command(run.trainings[-1]) if run.starts else
            f"{UNKNOWN}: the run is of a version that did not record it"
        ),
        "versions": run_facts.versions,
        "devices": run_facts.devices,
        "speed": lambda run: f"{run.speed:,.0f} images/s a device" if run.speed else UNKNOWN,
        "time": lambda run: run_facts.time(run)[1],
        "memory": run_facts.memory,
    }  # fmt: skip
    if any(run.config.teacher for run in runs):
        facts["teacher"] = lambda run: run.config.teacher or "none, it learns labels"
    if price is not None:
        facts["cost"] = lambda run: run_facts.cost(run, price)
    rows: list[list[object]] = [["", *(run.name for run in runs)] if len(runs) > 1 else [""]]
    rows += [[name, *map(fact, runs)] for name, fact in facts.items()]
    return page.table(rows, heads=True, class_="facts one" if len(runs) == 1 else "facts")


def _command(start: dict[str, Any]) -> Html:
    """Shows a command, whose lines break before a flag and not within its dashes."""
    first, *flags = str(start.get("command", UNKNOWN)).split(" --")
    spans = [element("span", f"--{flag}") for flag in flags]
    return element("code", first, *(part for span in spans for part in (" ", span)))


def _differences(runs: list[RunFacts]) -> Html:
    """Lists the fields in which the configs differ."""
    flat = [fields.completed(run.config.to_dict()) for run in runs]
    rows = [
        [name, *(shown(config.get(name, "-")) for config in flat)]
        for name in sorted({name for config in flat for name in config})
        if any(config.get(name) != flat[0].get(name) for config in flat)
    ]
    heading = element("h2", "Fields in which they differ")
    if not rows:
        return page.join([heading, element("p", "None: all have the same config.")])
    return page.join([heading, page.table([["", *(run.name for run in runs)], *rows], heads=True)])


def _curves(runs: list[RunFacts]) -> Html:
    """Draws a panel for each scalar, all runs together."""
    lines = {str(run.workdir): run.lines for run in runs}
    known = dict.fromkeys(name for run in runs for line in run.lines for name in line)
    found: dict[str, list[str]] = {}
    for name in known:
        short = name.rpartition("/")[2]
        if short in ("loss", "accuracy") or short.endswith("shot"):
            found.setdefault(short, []).append(name)
    drawn = [
        page.picture(curves.Curves(lines, {short: names}).figure(), f"curves of {short}", "svg")
        for short, names in found.items()
    ]
    if not drawn:
        drawn = [element("p", "There are no metrics yet.")]
    return page.join([element("h2", "Curves"), element("div", *drawn, class_="row")])


def _evaluations(runs: list[RunFacts]) -> Html:
    """Lists the last evaluation of each run, or all of a single one."""
    names = dict.fromkeys(
        name for run in runs for line in run.evaluations for name in curves.evaluations(line)
    )
    scalars = [name for name in names if not name.endswith("/examples")]
    heading = element("h2", "Evaluations")
    if not scalars:
        return page.join([heading, element("p", "No evaluation yet.")])

    def cells(line: dict[str, float]) -> list[str]:
        return [f"{line['step']:,}", *(curves.formatted(name, line.get(name)) for name in scalars)]

    top = ["step", *(name.replace("/", " ") for name in scalars)]
    if len(runs) == 1:
        rows = [cells(line) for line in runs[0].evaluations]
        parts = [page.table([top, *rows[-RECENT:]])]
        if len(rows) > RECENT:
            parts.append(page.details(f"all {len(rows)} evaluations", page.table([top, *rows])))
        if best := checkpoints.best(runs[0].workdir):
            value = curves.formatted(best.scalar, best.value)
            parts.append(element("p", f"Best {best.scalar}: {value} at step {best.step:,}."))
        return page.join([heading, *parts])
    rows = [
        [run.name, *(cells(run.evaluations[-1]) if run.evaluations else ["not evaluated yet"])]
        for run in runs
    ]
    return page.join([heading, page.table([["run", *top], *rows], heads=True)])


def _details(run: RunFacts, evaluated: bool) -> list[Html]:
    """Shows the errors, filters, starts and config of a run."""
    parts = [*(_errors(run) if evaluated else []), *_filters(run)]
    if run.starts:
        rows = [["started", "ended", "after step", "version", "command"]] + [
            [str(start.get(key, "-")) for key in ("started", "ended", "after_step", "version")]
            + [_command(start)]
            for start in run.starts
        ]
        parts.append(page.details(f"starts of the run ({len(rows) - 1})", page.table(rows)))
    config = fields.flatten(run.config.to_dict())
    rows = [["field", "value"], *([name, shown(x)] for name, x in config.items())]
    return [*parts, page.details("the whole config", page.table(rows))]


def _errors(run: RunFacts) -> list[Html]:
    """Shows wrong predictions and the confusion matrix, or why there are none."""
    heading = element("h3", "Errors")
    log.info("%s: evaluating, for errors and confusions", run.workdir)
    try:
        result = evaluate(run.workdir)
        found = result.predictions
    except (ValueError, OSError) as error:  # the data or the weights are not here
        return [heading, element("p", f"Left out: {error}")]
    wrong = int((found.guesses != found.labels).sum())
    text = (
        f"{wrong:,} of {len(found.labels):,} images of {result.source} are "
        f"misclassified: accuracy {result.accuracy:.2%}."
    )
    if wrong:
        text += " The most confident errors come first, from as many classes as possible."
    parts = [heading, element("p", text), _tiles(result)]
    k = len(found.class_names)
    if k > MATRIX:
        return [*parts, element("p", f"There is no confusion matrix of {k:,} classes.")]
    drawn = page.picture(sheet.confusion(result), "confusion matrix")
    return [*parts, element("h3", "Confusion matrix"), drawn]


def _tiles(result: Evaluation) -> Html:
    found, tiles = result.predictions, []
    for i in map(int, found.errors(ERRORS)):
        guess, truth = found.class_names[found.guesses[i]], found.class_names[found.labels[i]]
        caption = [f"{guess} ({found.confidences[i]:.0%})", f"is {truth}"]
        tiles.append(page.photograph(result.view(i), f"{truth}, classified as {guess}", caption))
    return element("div", *tiles, class_="tiles")


def _filters(run: RunFacts) -> list[Html]:
    """Draws units of the first token-mixing MLP before and after training; nothing if none are."""
    if not isinstance(run.module, MlpMixer):
        return []
    heading = element("h3", "Token-mixing filters")
    try:
        module, params = load(run.workdir)
    except (ValueError, OSError) as error:
        return [heading, element("p", f"Left out: {error}")]
    after = filters.choose(module, params)
    order = {layer: filters.sort(units, UNITS)[0] for layer, units in after.items()}
    panels = {"after training": after}
    text = "Weights of the first block for the patches, arranged like the patches in the image"
    source = run.config.init_from
    try:
        if source and not is_here(source):
            raise FileNotFoundError(f"{source} is not here any more")
        first = jax.device_get(initial.parameters(run.config, run.module, run.class_names))
        panels = {"before": filters.choose(run.module, first), **panels}
        origin = source or f"random, seed {run.config.seed}"
        text += f": the same units before training ({origin}) and after it."
    except (ValueError, OSError) as error:
        text += f". How they were before training is left out: {error}."
    drawn = []
    for when, units in panels.items():
        figure = Filters(units, order, {}).figure()
        figure.suptitle(when, fontsize=11)
        drawn.append(page.picture(figure, f"filters {when}"))
    return [heading, element("p", text), element("div", *drawn, class_="row")]

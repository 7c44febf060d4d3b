"""The parts of the site that are made from the code: its public names, commands, config fields."""

import argparse
import importlib
import inspect
import re

import mlp_mixer
from configs import common
from mlp_mixer.cli.main import COMMANDS
from mlp_mixer.training import fields
from mlp_mixer.training.ranges import Field

# The folder that a public name comes from -> its heading, in the order in which readers need them.
ROOMS = {
    "inference": "Models in use",
    "weights": "Weights",
    "run": "Runs",
    "models": "Modules",
    "analysis": "Figures and reports",
    "data": "Data sets",
    "training": "Sweeps",
    "planning": "TPU plans",
}


def public_names() -> str:
    """Returns a heading for each folder, and a directive that shows each name's docstring."""
    lines = []
    for room, heading in ROOMS.items():
        names = [name for name, (home, _) in mlp_mixer._HOMES.items()
                 if home.partition(".")[0] == room]  # fmt: skip
        lines += [f"## {heading}", *(f"::: mlp_mixer.{name}" for name in names)]
    return "\n\n".join(lines)


def commands() -> str:
    """Returns a section for each command: its docstring, and the arguments of its parser."""
    lines = []
    for name, (file, _) in COMMANDS.items():
        module = importlib.import_module(f"mlp_mixer.cli.{file}")
        parser = argparse.ArgumentParser(add_help=False)
        module.add_arguments(parser)
        lines += [f"## {name}", _linked(str(module.__doc__).strip()), "**Arguments**"]
        lines += map(_argument, parser._actions)
    return "\n\n".join(lines)


def _argument(action: argparse.Action) -> str:
    """An argument as an entry of a definition list."""
    value = action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper()
    shown = {0: "", "+": f"{value}...", "*": f"[{value}...]", "?": f"[{value}]"}
    name = " ".join([*action.option_strings, str(shown.get(action.nargs, value))]).strip()
    facts = [_linked((action.help or "").strip())]
    if action.required and action.option_strings:
        facts.append("required")
    elif action.default not in (None, False, argparse.SUPPRESS) and action.default != []:
        default = action.default if isinstance(action.default, list | tuple) else [action.default]
        facts.append(f"default: `{' '.join(map(str, default))}`")
    return _entry(name, "; ".join(filter(None, facts)))


def config_fields() -> str:
    """Returns the fields of configs/common.py with its comments, then those that it leaves out."""
    known = fields.FIELDS | {f"augment.{name}": field for name, field in fields.AUGMENT.items()}
    known |= {f"model.{name}": field for name, field in fields.MODEL.items()}
    lines, comment = [], ""
    for line in inspect.getsource(common.base).splitlines():
        if found := re.match(r" +# --- (.+?)(?:[;.] (.+?))?(?: ---)?$", line):
            lines += [f"## {_sentence(found[1])}".rstrip("."), _sentence(_linked(found[2] or ""))]
        elif found := re.match(r" +# (.+)", line):
            comment += f"{found[1]} "
        elif found := re.match(r" +config\.([\w.]+) = (.+?)(?:  # (.+))?$", line):
            if field := known.pop(found[1], None):
                lines.append(
                    _field(f"{found[1]} = {found[2]}", f"{comment}{found[3] or ''}", field)
                )
            comment = ""
    lines += [
        "## Sizes of models",
        "Set those that the architecture has, or `model.variant`; see "
        "[MlpMixer](api.md#mlp_mixer.MlpMixer).",
        *(_field(name, "", field) for name, field in known.items()),
        "## Evaluators",
        "Each is a section `evals.NAME`; see [evaluation](evaluation.md#in-a-run).",
        *(_field(f"evals.NAME.{name}", "", field) for name, field in fields.EVALUATOR.items()),
        "## Sweeps",
        "See [recipes](recipes.md#fine-tuning).",
        *(_field(f"sweep.{name}", "", field) for name, field in fields.SWEEP.items()),
    ]
    return "\n\n".join(filter(None, lines))


def _field(name: str, meaning: str, field: Field) -> str:
    return _entry(name, f"{_sentence(_linked(meaning))} *{_sentence(field.may_be)}*".strip())


def _sentence(text: str) -> str:
    """Text with a capital letter and a full stop."""
    text = text.strip()
    return text and text[0].upper() + text[1:].rstrip(".") + "."


def _entry(term: str, text: str) -> str:
    """An entry of a definition list."""
    return f"`{term}`\n:   {text}"


def _linked(text: str) -> str:
    """Text of a docstring or a comment, in which names of pages are links and flags are code."""
    lines = re.split(r"(^ {4}.*\n)", text, flags=re.M)  # every second one is code already
    for n, prose in enumerate(lines[::2]):
        flagged = re.sub(r"(?<![\w`-])(--[a-z][\w.-]*\w(?:=[\w./:-]*\w)?)", r"`\1`", prose)
        lines[2 * n] = re.sub(r"docs/(\w+)/(\w+)\.md", r"[\2](../\1/\2.md)", flagged)
    return "".join(lines)

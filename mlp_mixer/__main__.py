"""python -m mlp_mixer COMMAND: everything that is not training."""

import argparse
import importlib
import sys

from mlp_mixer import cli

# Each module has add_arguments(parser) and main(args); its docstring is the command's help.
COMMANDS = {
    "predict": ("mlp_mixer.evaluation.predict", "classes of image files, with probabilities"),
    "evaluate": ("mlp_mixer.evaluation.evaluate", "accuracy on a labelled data set"),
    "prepare": ("mlp_mixer.data.prepare", "a data set as ArrayRecord: TFDS's, or a folder"),
    "export": ("mlp_mixer.export", "one file that runs with jax alone"),
    "curves": ("mlp_mixer.analysis.curves", "learning curves of runs, side by side"),
    "sweep": ("mlp_mixer.training.sweep", "the learning-rate grid of a transfer, and its test"),
    "transfers": ("mlp_mixer.analysis.transfers", "sweeps as one table: Avg 5, VTAB-1k"),
    "filters": ("mlp_mixer.analysis.filters", "token-mixing weights, or the stem, as images"),
    "permutation": ("mlp_mixer.analysis.permutation", "figure 4, from runs on permuted pixels"),
    "tradeoff": ("mlp_mixer.analysis.tradeoff", "accuracy against compute and throughput"),
    "plan": ("mlp_mixer.analysis.tpu.plan", "what a run needs and costs on a TPU, without one"),
    "convert": ("mlp_mixer.weights.convert", "weights to another file, layout, size or dtype"),
    "inspect": ("mlp_mixer.weights.inspect", "what a weight file is, and its statistics"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mlp_mixer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (path, summary) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name in sys.argv[1:2]:  # the others take seconds to import
            module = importlib.import_module(path)
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(main=module.main)
    args, rest = parser.parse_known_args([cli.at_home(argument) for argument in sys.argv[1:]])
    overrides = [argument for argument in rest if argument.startswith("--config.")]
    if len(overrides) < len(rest) or (rest and not hasattr(args, "config")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if hasattr(args, "config"):
        args.config = cli.load_config(args.config, overrides)
    cli.guard(args.main, args)


if __name__ == "__main__":
    main()

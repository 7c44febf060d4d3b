"""mlp-mixer COMMAND: the command line.

The exit status is 0 on success, 1 after an error that a message explains, 2 for a wrong argument or
field, and 128 + N if signal N ended the command (130 for Ctrl-C, 143 for SIGTERM).
"""

import argparse
import atexit
import contextlib
import difflib
import importlib
import itertools
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

import mlp_mixer
from mlp_mixer.cli.arguments import at_home
from mlp_mixer.runtime.storage import in_words

# Command -> its module in this folder, and its summary in the list of commands. A module has
# add_arguments(parser) and main(args), and its docstring is the command's help.
COMMANDS = {
    "train": ("train", "a run, from a config to a workdir"),
    "predict": ("predict", "classes of image files, with probabilities"),
    "evaluate": ("evaluate", "accuracy on a labelled data set"),
    "prepare": ("prepare", "a data set as ArrayRecord: TFDS's, or a folder"),
    "export": ("export", "one file that runs with jax alone"),
    "curves": ("curves", "learning curves of runs, side by side"),
    "report": ("report", "runs as one HTML page, with curves, errors and filters"),
    "sweep": ("sweep", "the learning-rate grid of a transfer, and its test"),
    "transfers": ("transfers", "sweeps as one table: Avg 5, VTAB-1k"),
    "filters": ("filters", "token-mixing weights, or the stem, as images"),
    "sharpness": ("sharpness", "largest eigenvalues of the loss's Hessian"),
    "permutation": ("permutation", "figure 4, from runs on permuted pixels"),
    "tradeoff": ("tradeoff", "accuracy against compute and throughput"),
    "plan": ("plan", "what a run needs and costs on a TPU, without one"),
    "convert": ("convert", "weights to another file, layout, size or dtype"),
    "inspect": ("describe", "what a weight file is, and its statistics"),
    "push": ("push", "a model to the Hugging Face hub, or to a folder like there"),
    "pretrained": ("pretrained", "the published weights, with sizes and accuracies"),
}
USER_ERRORS = (ValueError, OSError, FloatingPointError)
TRACEBACK_VARIABLE = "MLP_MIXER_TRACEBACK"
LESS_MEMORY = (
    "(less memory is needed with a smaller batch_size or image_size, with more accum_steps, with "
    "remat=True, and on several devices with layout=fsdp)"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command, and returns its exit status.

    Args:
        argv: the command and its arguments; by default those of this process.
    """
    argv = [at_home(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    # Figures go to files, so matplotlib must not look for a display when a command imports it.
    os.environ.setdefault("MPLBACKEND", "agg")
    try:
        with _ending_at_once():
            run, args = _parse(argv)
        return guard(run, args)
    except SystemExit as ended:  # raised by argparse, or by a run that was asked to end
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))


def _parse(argv: list[str]) -> tuple[Callable[[argparse.Namespace], None], argparse.Namespace]:
    """Returns the main() of the chosen command, and its parsed arguments."""
    parser = _Parser(
        prog="mlp-mixer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=mlp_mixer.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    module: Any = None
    chosen = parser
    for name, (file, summary) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if argv[:1] == [name]:  # importing the others would take seconds
            module = importlib.import_module(f"mlp_mixer.cli.{file}")
            command.description = module.__doc__
            module.add_arguments(command)
            chosen = command
    if argv and not argv[0].startswith("-") and module is None:
        parser.error(f"there is no command {argv[0]}{_nearest(argv[0], COMMANDS)}")
    # Before argparse, which would only say that the flag that was meant is missing.
    for argument in itertools.takewhile(lambda argument: argument != "--", argv[1:]):
        flag = argument.partition("=")[0]
        is_known = any(known.startswith(flag) for known in _flags(chosen))
        if flag.startswith("--") and not flag.startswith("--config.") and not is_known:
            chosen.error(_unrecognized(argument, chosen))
    args, rest = parser.parse_known_args(argv)
    overrides = [argument for argument in rest if argument.startswith("--config.")]
    takes_config = hasattr(args, "config")
    for before, argument in zip(["", *rest], rest, strict=False):
        if argument not in overrides or not takes_config:
            if before in overrides and "=" not in before and not argument.startswith("--"):
                chosen.error(f"unrecognized argument {argument}; write {before}={argument}")
            chosen.error(_unrecognized(argument, chosen))
    if module is None:  # the command is preceded by something else, such as --
        parser.error("the command comes first")
    if takes_config:
        from mlp_mixer.cli.config import load  # imports Flax

        try:
            args.config = load(args.config, overrides)
        except (ValueError, OSError) as error:
            chosen.fail(in_words(error))
        if args.command == "train":
            _check_no_sweep(overrides, chosen)
    return module.main, args


class _Parser(argparse.ArgumentParser):
    """Reports errors in one line, in the same form as all other errors here."""

    def error(self, message: str) -> NoReturn:
        self.fail(f"{message}\n({self.prog} --help lists what there is)")

    def fail(self, message: str) -> NoReturn:
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def _check_no_sweep(overrides: Iterable[str], parser: _Parser) -> None:
    """Refuses to train once with rates that are meant for a sweep, which would be ignored."""
    for override in overrides:
        if override.startswith("--config.sweep."):
            parser.fail(
                f"train does not read {override}: it trains once, with --config.lr; "
                "mlp-mixer sweep trains with each rate of a sweep"
            )


def _unrecognized(argument: str, parser: argparse.ArgumentParser) -> str:
    name, flags = argument.partition("=")[0], _flags(parser)
    field = _field(name.lstrip("-").replace("-", "_")) if "--config" in flags else ""
    hint = f"; did you mean --config.{field}?" if field else _nearest(name, flags)
    return f"unrecognized argument {argument}{hint}"


def _field(name: str) -> str:
    """Returns the field of that name, or of that name in other libraries; "" if there is none."""
    from mlp_mixer.training import fields  # imports Flax

    sections = (("augment", fields.AUGMENT), ("model", fields.MODEL))
    known = {*fields.FIELDS, *(f"{section}.{x}" for section, names in sections for x in names)}
    return name if name in known else fields.synonym(name, known)


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


@contextlib.contextmanager
def _ending_at_once() -> Iterator[None]:
    """Lets Ctrl-C end the process without a traceback, during imports that take seconds."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def guard(run: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """Calls run(args), and returns the exit status; errors a user can fix become one message."""
    from mlp_mixer.runtime import bucket_errors, compile_cache, devices, host_memory  # import jax

    log_to_stderr()
    host_memory.keep()
    compile_cache.enable()
    devices.leave_out_libtpu()
    try:
        run(args)
    except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except USER_ERRORS as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        print(f"error: {in_words(error)}", file=sys.stderr)
        if not os.environ.get(TRACEBACK_VARIABLE):
            print(f"({TRACEBACK_VARIABLE}=1 shows where)", file=sys.stderr)
        return 1
    except Exception as error:  # a bucket's or a device's; any other is a bug, and raised again
        problem = bucket_errors.problem(error)
        if not problem and devices.is_out_of_memory(error):
            problem = f"{str(error).splitlines()[0]} {LESS_MEMORY}"
        if not problem and isinstance(error, RuntimeError | AssertionError):
            problem = devices.problem()
        if not problem:
            raise
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command continues from what was finished", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def log_to_stderr() -> None:
    """Shows log messages of this package from level INFO, and those of libraries from ERROR."""
    from absl import logging as absl_logging

    from mlp_mixer.runs.orbax_errors import SILENT_THREADS
    from mlp_mixer.runtime import visible_log

    absl_logging.set_verbosity(absl_logging.ERROR)
    SILENT_THREADS.__enter__()  # for the rest of the process, as some threads outlive a run
    atexit.register(SILENT_THREADS.__exit__)
    log = logging.getLogger(visible_log.NAME)
    log.handlers, log.propagate = [visible_log.handler()], False
    log.setLevel(logging.INFO)

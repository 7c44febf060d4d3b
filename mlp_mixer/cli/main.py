"""mlp-mixer COMMAND: the command line.

Exit statuses: 0 when all is done, 1 on an error that a message explains, 2 on a wrong argument or
field, 128 + N when signal N ended it (130 for Ctrl-C, 143 for SIGTERM).
"""

import argparse
import atexit
import contextlib
import difflib
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

import mlp_mixer
from mlp_mixer.cli.arguments import at_home
from mlp_mixer.cli.output import in_words

# By name: the module in this folder, which has add_arguments(parser) and main(args) and whose
# docstring is the command's help; and what the command does, for the list of all.
COMMANDS = {
    "train": ("train", "a run, from a config to a workdir"),
    "predict": ("predict", "classes of image files, with probabilities"),
    "evaluate": ("evaluate", "accuracy on a labelled data set"),
    "prepare": ("prepare", "a data set as ArrayRecord: TFDS's, or a folder"),
    "export": ("export", "one file that runs with jax alone"),
    "curves": ("curves", "learning curves of runs, side by side"),
    "sweep": ("sweep", "the learning-rate grid of a transfer, and its test"),
    "transfers": ("transfers", "sweeps as one table: Avg 5, VTAB-1k"),
    "filters": ("filters", "token-mixing weights, or the stem, as images"),
    "permutation": ("permutation", "figure 4, from runs on permuted pixels"),
    "tradeoff": ("tradeoff", "accuracy against compute and throughput"),
    "plan": ("plan", "what a run needs and costs on a TPU, without one"),
    "convert": ("convert", "weights to another file, layout, size or dtype"),
    "inspect": ("describe", "what a weight file is, and its statistics"),
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
        argv: the command and its arguments; those of this process where not given.
    """
    argv = [at_home(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    # Pictures go to files; matplotlib asks for a screen when a command imports it.
    os.environ.setdefault("MPLBACKEND", "agg")
    try:
        with _ending_at_once():
            run, args = _parse(argv)
        return guard(run, args)
    except SystemExit as ended:  # argparse's, or a run that was asked to end
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))


def _parse(argv: list[str]) -> tuple[Callable[[argparse.Namespace], None], argparse.Namespace]:
    """The main() of the command that is meant, and its arguments."""
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
        if argv[:1] == [name]:  # the others take seconds to import
            module = importlib.import_module(f"mlp_mixer.cli.{file}")
            command.description = module.__doc__
            module.add_arguments(command)
            chosen = command
    if argv and not argv[0].startswith("-") and module is None:
        parser.error(f"there is no command {argv[0]}{_nearest(argv[0], COMMANDS)}")
    args, rest = parser.parse_known_args(argv)
    overrides = [argument for argument in rest if argument.startswith("--config.")]
    takes_config = hasattr(args, "config")
    for argument in rest:
        if argument not in overrides or not takes_config:
            chosen.error(_unrecognized(argument, chosen))
    if module is None:  # behind something that is no command, such as --
        parser.error("the command comes first")
    if takes_config:
        from mlp_mixer.cli.config import load  # imports Flax

        try:
            args.config = load(args.config, overrides)
        except (ValueError, OSError) as error:
            chosen.fail(in_words(error))
    return module.main, args


class _Parser(argparse.ArgumentParser):
    """Tells an error in one line that begins as all other errors here do."""

    def error(self, message: str) -> NoReturn:
        self.fail(f"{message}\n({self.prog} --help lists what there is)")

    def fail(self, message: str) -> NoReturn:
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def _unrecognized(argument: str, parser: argparse.ArgumentParser) -> str:
    flag = argument.partition("=")[0]
    known = [option for action in parser._actions for option in action.option_strings]
    return f"unrecognized argument {argument}{_nearest(flag, known)}"


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


@contextlib.contextmanager
def _ending_at_once() -> Iterator[None]:
    """Within it Ctrl-C ends the process without a traceback: for seconds of imports."""
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
    """Calls run(args); what a user can mend becomes one message and exit status 1."""
    from mlp_mixer.runtime import compile_cache, devices, host_memory  # they import jax

    log_to_stderr()
    host_memory.keep()
    compile_cache.enable()
    devices.leave_out_libtpu()
    try:
        run(args)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except USER_ERRORS as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        print(f"error: {in_words(error)}", file=sys.stderr)
        if not os.environ.get(TRACEBACK_VARIABLE):
            print(f"({TRACEBACK_VARIABLE}=1 shows where)", file=sys.stderr)
        return 1
    except (RuntimeError, AssertionError) as error:
        problem = devices.problem()
        if not problem and devices.is_out_of_memory(error):
            problem = f"{str(error).splitlines()[0]} {LESS_MEMORY}"
        if not problem:
            raise
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what was finished", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def log_to_stderr() -> None:
    """Shows messages of this package from INFO on, and those of libraries from ERROR on."""
    from absl import logging as absl_logging

    from mlp_mixer.runs.orbax_errors import SILENT_THREADS
    from mlp_mixer.runtime import visible_log

    absl_logging.set_verbosity(absl_logging.ERROR)
    SILENT_THREADS.__enter__()  # to the end of the process: some of them outlive a run
    atexit.register(SILENT_THREADS.__exit__)
    log = logging.getLogger(visible_log.NAME)
    log.handlers, log.propagate = [visible_log.handler()], False
    log.setLevel(logging.INFO)

"""What is seen from Python, and what a process looks like afterwards."""

import contextlib
import io
import logging
import sys
import threading

import pytest

from mlp_mixer.runs.orbax_errors import SILENT_THREADS
from mlp_mixer.runtime import visible_log
from mlp_mixer.runtime.visible_log import SHOWN
from mlp_mixer.training import progress

LOG = logging.getLogger("mlp_mixer.training.loop")


@contextlib.contextmanager
def nothing_set_up():
    """A process in which nobody has set up logging; gives what it writes to stderr.

    No fixture: pytest sets up logging after those.
    """
    package = logging.getLogger("mlp_mixer")
    levels = package.level, logging.root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.root, "handlers", [])
        patch.setattr(package, "handlers", [])
        patch.setattr(package, "propagate", True)
        patch.setattr(sys, "stderr", io.StringIO())
        package.setLevel(logging.NOTSET)
        logging.root.setLevel(logging.WARNING)
        try:
            yield sys.stderr
        finally:
            package.setLevel(levels[0])
            logging.root.setLevel(levels[1])


def state():
    package = logging.getLogger("mlp_mixer")
    return list(package.handlers), package.level, package.propagate, list(logging.root.handlers)


@pytest.mark.parametrize("unasked", [False, True], ids=["as_python_comes", "basicConfig_by_absl"])
def test_where_nobody_has_set_up_logging_each_line_is_seen_once(unasked):
    with nothing_set_up() as stderr:
        if unasked:
            logging.basicConfig()
        before = state()
        with SHOWN:
            logging.basicConfig()  # as absl does when Orbax logs for the first time
            LOG.info("step 1/6")
        assert stderr.getvalue().count("step 1/6") == 1
        assert state() == before
        LOG.info("a line after it")
        assert "after it" not in stderr.getvalue()


def test_logging_that_the_user_has_set_up_stays_as_it_is():
    with nothing_set_up() as stderr:
        logging.basicConfig(level=logging.INFO, format="mine: %(message)s")
        before = state()
        with SHOWN:
            assert state() == before
            LOG.info("step 1/6")
        assert stderr.getvalue() == "mine: step 1/6\n" and state() == before
        logging.getLogger("mlp_mixer").setLevel(logging.ERROR)
        with SHOWN:
            LOG.info("quiet")
        assert "quiet" not in stderr.getvalue()


def test_the_last_of_two_concurrent_runs_restores_the_log():
    with nothing_set_up() as stderr:
        before, hook = state(), sys.unraisablehook
        with SHOWN, SILENT_THREADS:
            first_has_ended, second_is_in = threading.Event(), threading.Event()

            def second():
                with SHOWN, SILENT_THREADS:
                    second_is_in.set()
                    first_has_ended.wait(10)
                    LOG.info("still seen")

            thread = threading.Thread(target=second)
            thread.start()
            second_is_in.wait(10)
        first_has_ended.set()
        thread.join()
        assert stderr.getvalue().count("still seen") == 1
        assert state() == before and sys.unraisablehook is hook


@pytest.mark.parametrize("by_user", [False, True])
def test_a_notebook_shows_a_bar_and_each_line_once(as_notebook, capsys, by_user):
    with nothing_set_up() as stderr:
        if by_user:
            logging.basicConfig(level=logging.INFO, format="mine: %(message)s")
        before = state()
        with SHOWN, progress.bar(2, 6) as bar:
            LOG.info("step 3/6")
            bar.update()
        assert state() == before
    text = stderr.getvalue()
    assert "2/6 [" in text and text.count("mine: step 3/6") == by_user
    # Not to stderr, on which notebooks put the red of errors.
    assert capsys.readouterr().out.count("step 3/6") == (not by_user)


def test_importing_orbax_leaves_the_root_logger_alone():
    with visible_log.root_as_it_is():
        before = list(logging.root.handlers)
        logging.root.addHandler(added := logging.StreamHandler())
        added.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        logging.root.addHandler(chosen := logging.NullHandler())
    assert logging.root.handlers == [*before, chosen]
    logging.root.removeHandler(chosen)

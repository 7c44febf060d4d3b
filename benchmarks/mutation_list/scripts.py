"""Mutations of scripts/."""

from benchmarks.mutation_list.mutation import Mutation

MUTATIONS = (
    Mutation(
        "a TPU that gcloud cannot see just now counts as gone",
        "scripts/tpu.sh",
        '*) echo "UNKNOWN, as gcloud does not answer" ;;',
        "*) echo ABSENT ;;",
        "tests/test_scripts.py -k no_longer_see",
    ),
    Mutation(
        "spot goes on when the run has ended with status 0",
        "scripts/tpu.sh",
        "          0) break ;;\n",
        "",
        "tests/test_scripts.py -k starts_a_stopped_run",
    ),
    Mutation(
        "spot starts a run with a wrong argument again",
        "scripts/tpu.sh",
        "          2) fail 2 ;;\n",
        "",
        "tests/test_scripts.py -k wrong_argument",
    ),
    Mutation(
        "spot starts a run that fails for ever",
        "scripts/tpu.sh",
        "((tries == TRIES))",
        "false",
        "tests/test_scripts.py -k error_that_stays",
    ),
    Mutation(
        "spot gives up a run that makes progress",
        "scripts/tpu.sh",
        '[[ $there != "$before" || $found',
        "[[ $found",
        "tests/test_scripts.py -k from_each_checkpoint",
    ),
    Mutation(
        "spot gives up a run that is often preempted",
        "scripts/tpu.sh",
        " || $found == 143 || $found == 130",
        "",
        "tests/test_scripts.py -k starts_a_stopped_run",
    ),
    Mutation(
        "spot ends when a TPU is not created",
        "scripts/tpu.sh",
        'request || say "it was not created; the next try is in $POLL s"',
        "request",
        "tests/test_scripts.py -k not_created",
    ),
    Mutation(
        "stop ends the shell that was sent to do it",
        "scripts/tpu.sh",
        "kill -TERM \\$(cat train.pid)",
        "kill -TERM \\$\\$",
        "tests/test_scripts.py -k stop_ends",
    ),
    Mutation(
        "train starts a second run on a host",
        "scripts/tpu.sh",
        "flock -n 9 || { echo 'a run is under way on this host' >&2; exit 1; }\n",
        "",
        "tests/test_scripts.py -k second_run",
    ),
    Mutation(
        "data are mounted to be written",
        "scripts/tpu.sh",
        "gcsfuse -o ro ",
        "gcsfuse ",
        "tests/test_scripts.py -k mounted",
    ),
    Mutation(
        "the site leaves out an argument of each command",
        "scripts/site_reference.py",
        "map(_argument, parser._actions)",
        "map(_argument, parser._actions[1:])",
        "tests/test_site.py -k command_and_argument",
    ),
    Mutation(
        "a page of the site loads pictures from other servers",
        "scripts/build_site.py",
        'return match[1] if "://" in match[2]',
        'return match[0] if "://" in match[2]',
        "tests/test_site.py -k pictures_of_other_servers",
    ),
)

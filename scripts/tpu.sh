#!/usr/bin/env bash
# A Cloud TPU VM, or a pod slice of them, from nothing to a running experiment; see docs/tpu.md.
#
#   scripts/tpu.sh create            asks for the TPU, and waits until it is there
#   scripts/tpu.sh setup             copies this checkout to every host and installs it there
#   scripts/tpu.sh train ARGUMENTS   starts train.py on every host, in the background
#   scripts/tpu.sh logs              follows the log of the first host
#   scripts/tpu.sh stop              SIGTERM to the run: it saves a checkpoint and ends
#   scripts/tpu.sh delete            gives the TPU back (nothing is billed any more)
#   scripts/tpu.sh spot ARGUMENTS    all of it on spot capacity, again after each preemption
#
# Settings are environment variables. DRY_RUN=1 prints the commands instead of running them.
set -euo pipefail

NAME=${NAME:-mixer}
ZONE=${ZONE:-us-west4-a}
TYPE=${TYPE:-v5litepod-8}    # v5litepod-8 is one host with 8 chips; v5litepod-32 a slice of 8 hosts
BUCKET=${BUCKET:?the Cloud Storage bucket for checkpoints, without gs://}
RUN=${RUN:-runs/mixer}       # the folder of this run in the bucket
DISK=${DISK:-}               # a persistent disk with the data set, attached read-only to every host
POLL=${POLL:-60}             # seconds between two looks at a queued resource
GCSFUSE=${GCSFUSE:-3.4.0}    # release of Cloud Storage FUSE

here=$(cd "$(dirname "$0")/.." && pwd)

run() {
  if [[ -n ${DRY_RUN:-} ]]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# What the software image is called differs by generation.
image() {
  case $TYPE in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    *)
      echo "tpu.sh: unknown TYPE=$TYPE; v2-8 to v6e-256, such as v5litepod-8" >&2
      exit 2
      ;;
  esac
}

on_all() {
  run gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

disk_flag() {
  if [[ -n $DISK ]]; then
    echo "--data-disk=source=$DISK,mode=read-only"
  fi
}

create() {
  local disk version
  version=$(image)
  disk=$(disk_flag)
  run gcloud compute tpus tpu-vm create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE" \
    --version="$version" ${disk:+"$disk"}
}

# The image's own Python is 3.10, too old for jax; uv brings its own. The bucket becomes ~/gcs.
setup() {
  local archive=/tmp/mlp_mixer.tar.gz
  run git -C "$here" archive --format=tar.gz --output="$archive" HEAD
  run gcloud compute tpus tpu-vm scp "$archive" "$NAME:mlp_mixer.tar.gz" --zone="$ZONE" --worker=all
  on_all "set -e
mkdir -p mlp_mixer && tar -xzf mlp_mixer.tar.gz -C mlp_mixer && cd mlp_mixer
python3 -m pip install --quiet --user uv
~/.local/bin/uv venv --quiet --allow-existing --python 3.12 .venv
~/.local/bin/uv pip install --quiet --python .venv/bin/python -r requirements-tpu.txt
if ! command -v gcsfuse > /dev/null; then
  curl -sSfL -o /tmp/gcsfuse.deb https://github.com/GoogleCloudPlatform/gcsfuse/releases/download/v$GCSFUSE/gcsfuse_${GCSFUSE}_amd64.deb
  sudo apt-get install -qq -y /tmp/gcsfuse.deb
fi
mkdir -p ~/gcs && { mountpoint -q ~/gcs || gcsfuse --implicit-dirs $BUCKET ~/gcs; }
if [[ -b /dev/sdb ]]; then sudo mkdir -p /data && { mountpoint -q /data || sudo mount -o ro,noload /dev/sdb /data; }; fi
.venv/bin/python -c 'import jax; print(jax.local_device_count(), \"chips or cores here\")' || true"
}

# setsid and nohup: the run goes on when the connection ends.
train() {
  local arguments
  arguments=$(printf '%q ' "$@")
  on_all "cd mlp_mixer && TFDS_DATA_DIR=/data setsid nohup .venv/bin/python train.py \
--workdir=\$HOME/gcs/$RUN $arguments > train.log 2>&1 < /dev/null & echo started"
}

logs() {
  run gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=0 \
    --command="tail -n 100 -F mlp_mixer/train.log"
}

stop() {
  on_all "pkill -TERM -f train.py || true"
}

delete() {
  run gcloud compute tpus tpu-vm delete "$NAME" --zone="$ZONE" --quiet
}

finished() {
  gcloud storage ls "gs://$BUCKET/$RUN/finished" > /dev/null 2>&1
}

running() {
  gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=0 \
    --command="pgrep -f train.py" > /dev/null 2>&1
}

request() {
  local disk version
  version=$(image)
  disk=$(disk_flag)
  run gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
    --accelerator-type="$TYPE" --runtime-version="$version" --spot ${disk:+"$disk"}
}

give_up_request() {
  run gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
}

# A run writes the file "finished" last; until it is there the same command goes on.
spot() {
  if [[ -n ${DRY_RUN:-} ]]; then
    request
    setup
    train "$@"
    give_up_request
    return
  fi
  until finished; do
    state=$(gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" \
      --format='value(state.state)' 2> /dev/null || echo ABSENT)
    echo "$(date '+%F %T')  $NAME is $state"
    case $state in
      ABSENT) request ;;
      ACTIVE)
        # A host may vanish in the middle of either; the next look sees it.
        running || { setup && train "$@"; } || true
        ;;
      FAILED | SUSPENDED) give_up_request ;;
    esac
    sleep "$POLL"
  done
  echo "finished: gs://$BUCKET/$RUN"
  give_up_request
}

case ${1:-} in
  create | setup | logs | stop | delete) "$1" ;;
  train | spot) "$@" ;;
  *)
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac

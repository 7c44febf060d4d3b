#!/usr/bin/env bash
# A Cloud TPU VM, or a pod slice of them, from nothing to a running experiment; see docs/guides/tpu.md.
#
#   scripts/tpu.sh create            asks for the TPU, and waits until it is there
#   scripts/tpu.sh setup             copies this checkout to every host and installs it there
#   scripts/tpu.sh train ARGUMENTS   starts mlp-mixer train on every host, in the background
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
BUCKET=${BUCKET:?the Cloud Storage bucket for checkpoints}
RUN=${RUN:-runs/mixer}       # the run's folder in the bucket: its workdir is gs://BUCKET/RUN
COMMAND=${COMMAND:-train}    # what "train" and "spot" run: mlp-mixer train, or sweep
DISK=${DISK:-}               # a persistent disk with the data set, attached read-only as /data
DATA=${DATA:-}               # or gs://BUCKET/FOLDER with the data set, mounted read-only as /data
POLL=${POLL:-60}             # seconds between two looks at a queued resource
TRIES=${TRIES:-3}            # starts without a new checkpoint after which "spot" gives up
GCSFUSE=${GCSFUSE:-3.4.0}    # release of Cloud Storage FUSE, which mounts DATA

workdir=gs://${BUCKET#gs://}/$RUN
here=$(cd "$(dirname "$0")/.." && pwd)

refuse() {
  echo "tpu.sh: $1" >&2
  exit 2
}

case $COMMAND in
  train) last_file=finished ;; # what is written when everything is done
  sweep) last_file=sweep.json ;;
  *) refuse "unknown COMMAND=$COMMAND; train or sweep" ;;
esac
if [[ -n $DATA && ($DATA != gs://?* || -n $DISK) ]]; then
  refuse "DATA=$DATA must be gs://BUCKET/FOLDER, and there may be no DISK beside it"
fi

run() {
  if [[ -n ${DRY_RUN:-} ]]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

say() {
  echo "$(date '+%F %T')  $1"
}

# What the software image is called differs by generation.
image() {
  case $TYPE in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    *) refuse "unknown TYPE=$TYPE; v2-8 to v6e-256, such as v5litepod-8" ;;
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

# The commands by which /data appears on a host: the mounted DATA, or else the disk if it has one.
mount_data() {
  local bucket folder
  if [[ -z $DATA ]]; then
    echo "if [[ -b /dev/sdb ]]; then
  sudo mkdir -p /data
  mountpoint -q /data || sudo mount -o ro,noload /dev/sdb /data
fi"
  else
    IFS=/ read -r bucket folder <<< "${DATA#gs://}"
    folder=${folder%/}
    echo "if ! command -v gcsfuse > /dev/null; then
  curl -sSfL -o /tmp/gcsfuse.deb https://github.com/GoogleCloudPlatform/gcsfuse/releases/download/v$GCSFUSE/gcsfuse_${GCSFUSE}_amd64.deb
  sudo apt-get install -qq -y /tmp/gcsfuse.deb
fi
sudo mkdir -p /data
mountpoint -q /data || { sudo chown \$(id -u) /data && gcsfuse -o ro --implicit-dirs ${folder:+--only-dir=$folder }$bucket /data; }"
  fi
}

# The image's own Python is 3.10, too old for jax; uv brings its own.
setup() {
  local archive=${TMPDIR:-/tmp}/mlp_mixer.tar.gz
  run git -C "$here" archive --format=tar.gz --output="$archive" HEAD &&
    run gcloud compute tpus tpu-vm scp "$archive" "$NAME:mlp_mixer.tar.gz" --zone="$ZONE" \
      --worker=all &&
    on_all "set -e
mkdir -p mlp_mixer && tar -xzf mlp_mixer.tar.gz -C mlp_mixer && cd mlp_mixer
python3 -m pip install --quiet --user uv
~/.local/bin/uv venv --quiet --allow-existing --python 3.12 .venv
~/.local/bin/uv pip install --quiet --python .venv/bin/python -r requirements-tpu.txt
$(mount_data)
.venv/bin/python -c 'import jax; print(jax.local_device_count(), \"chips or cores here\")' || true"
}

# On each host, all in ~/mlp_mixer:
#   train.lock     locked for as long as the run lives, however it ends
#   train.pid      its process, for "stop"
#   train.status   its exit status, for "spot"
# setsid and nohup: the run goes on when the connection ends.
train() {
  local arguments
  arguments=$(printf '%q ' "$COMMAND" --workdir="$workdir" "$@")
  on_all "set -e
cd mlp_mixer
exec 9> train.lock
flock -n 9 || { echo 'a run is under way on this host' >&2; exit 1; }
rm -f train.pid train.status
export TFDS_DATA_DIR=/data
setsid nohup bash -c '
  .venv/bin/python -m mlp_mixer \"\$@\" &
  echo \$! > train.pid
  wait \$!
  echo \$? > train.status' bash $arguments > train.log 2>&1 < /dev/null &
echo started"
}

logs() {
  run gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=0 \
    --command="tail -n 100 -F mlp_mixer/train.log"
}

# By its number: a pattern for pkill would also match the shell that was sent to run pkill.
stop() {
  on_all "cd mlp_mixer
if flock -n train.lock true; then echo 'no run on this host'; else kill -TERM \$(cat train.pid); fi"
}

delete() {
  run gcloud compute tpus tpu-vm delete "$NAME" --zone="$ZONE" --quiet
}

finished() {
  gcloud storage ls "$workdir/$last_file" > /dev/null 2>&1
}

# A checkpoint exists if this file of it does.
checkpoints() {
  gcloud storage ls "$workdir/**/SHA256SUMS" 2> /dev/null || true
}

# The run on the first host: running, none, unreachable, or the exit status with which it ended.
status() {
  local told
  if told=$(gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=0 --command="
cd mlp_mixer 2> /dev/null || { echo none; exit; }
flock -n train.lock true || { echo running; exit; }
cat train.status 2> /dev/null || echo none" 2> /dev/null); then
    echo "$told"
  else
    echo unreachable
  fi
}

request() {
  local disk version
  version=$(image)
  disk=$(disk_flag)
  run gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
    --accelerator-type="$TYPE" --runtime-version="$version" --spot ${disk:+"$disk"}
}

# ABSENT only if Google says so: while there is no answer, a TPU may be there, and billed.
state() {
  local ask=(gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE"
    --format="value(state.state)")
  if ! "${ask[@]}" 2> /dev/null; then
    case $("${ask[@]}" 2>&1 > /dev/null) in
      *NOT_FOUND* | *"not found"*) echo ABSENT ;;
      *) echo "UNKNOWN, as gcloud does not answer" ;;
    esac
  fi
}

give_up_request() {
  run gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
}

# Gives the TPU back and ends with a status.
end() {
  if [[ $(state) != ABSENT ]]; then
    give_up_request || say "$NAME COULD NOT BE GIVEN BACK: while it is there, it is billed"
  fi
  exit "$1"
}

# Prints the last lines of the logs, gives the TPU back and ends.
fail() {
  say "the run has failed ($1); the last lines on every host:"
  on_all "tail -n 50 mlp_mixer/train.log" || true
  case $1 in
    none) end 1 ;; # it could not even be set up
    *) end "$1" ;;
  esac
}

# Starts the run until it ends: with status 0, or with an error. An error of its arguments (2) ends
# it at once. Any other may be that of a host that has lost another one, which is soon preempted or
# back: the run is started TRIES times on one TPU, counted anew from each new checkpoint.
spot() {
  local now tries=0 there="" before="" found
  if [[ -n ${DRY_RUN:-} ]]; then
    request
    setup
    train "$@"
    give_up_request
    return
  fi
  image > /dev/null # or ends here
  until finished; do
    now=$(state)
    say "$NAME is $now"
    if [[ $now != ACTIVE && $now != UNKNOWN* ]]; then
      tries=0
    fi
    case $now in
      ABSENT) request || say "it was not created; the next try is in $POLL s" ;;
      ACTIVE)
        found=$(status)
        if ((tries == 0)) && [[ $found == [0-9]* ]]; then
          found=none # that was another run, which was not started here
        fi
        case $found in
          running) ;;
          unreachable) say "its first host does not answer" ;;
          0) break ;;
          2) fail 2 ;;
          *)
            there=$(checkpoints)
            # After SIGTERM or Ctrl-C (143, 130) nothing is wrong: the host is about to vanish.
            if [[ $there != "$before" || $found == 143 || $found == 130 ]]; then
              tries=0
            fi
            before=$there
            if ((tries == TRIES)); then
              fail "$found"
            fi
            tries=$((tries + 1))
            say "starting the run (before: $found)"
            # A host may vanish in the middle of either; the next look sees it.
            { setup && train "$@"; } || say "it could not be started; the next look is in $POLL s"
            ;;
        esac
        ;;
      FAILED | SUSPENDED) give_up_request || say "it was not deleted; the next try is in $POLL s" ;;
    esac
    sleep "$POLL"
  done
  echo "finished: $workdir"
  end 0
}

case ${1:-} in
  create | setup | logs | stop | delete) "$1" ;;
  train | spot) "$@" ;;
  *)
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac

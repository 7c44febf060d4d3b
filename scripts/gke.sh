#!/usr/bin/env bash
# Trains on TPU slices of a GKE cluster with Cluster Toolkit's gcluster; see docs/guides/tpu.md.
#
#   scripts/gke.sh --config=configs/imagenet.py:B/16 --config.data.source=folder:/data/imagenet
#
# Settings are environment variables. DRY_RUN=1 prints the command; gcluster's own --dry-run-out
# writes the Kubernetes manifest instead of applying it (MANIFEST=file.yaml).
set -euo pipefail

NAME=${NAME:-mixer}
CLUSTER=${CLUSTER:?the GKE cluster}
LOCATION=${LOCATION:?its region or zone, such as us-west4-a}
TYPE=${TYPE:-v5e-32}         # chips of a slice
SLICES=${SLICES:-1}
BUCKET=${BUCKET:?the Cloud Storage bucket for checkpoints}
RUN=${RUN:-runs/mixer}       # the run's folder in the bucket: its workdir is gs://BUCKET/RUN
DATA=${DATA:-}               # gs://BUCKET/FOLDER with the data set, mounted read-only at /data
MANIFEST=${MANIFEST:-}
# The repository of images that gcluster pushes to, in the project and region of the cluster.
export GCLUSTER_IMAGE_REPO=${GCLUSTER_IMAGE_REPO:?the name of an Artifact Registry repository}

workdir=gs://${BUCKET#gs://}/$RUN
here=$(cd "$(dirname "$0")/.." && pwd)

# Pods of a slice find each other by the variables that GKE sets: jax.distributed needs no arguments.
# After a preemption the JobSet starts again, and the same command continues the run.
command=(
  gcluster job submit --name "$NAME" --cluster "$CLUSTER" --location "$LOCATION"
  --compute-type "$TYPE" --num-slices "$SLICES" --restarts 1000 --grace-period 120
  --base-image python:3.12-slim --build-context "$here" --env TFDS_DATA_DIR=/data
  --command "pip install --quiet -r requirements-tpu.txt && exec python train.py $(printf '%q ' --workdir="$workdir" "$@")"
)
if [[ -n $DATA ]]; then
  command+=(--mount "$DATA;/data;ro;options=implicit-dirs")
fi
if [[ -n $MANIFEST ]]; then
  command+=(--dry-run-out "$MANIFEST")
fi
if [[ -n ${DRY_RUN:-} ]]; then
  printf '%q ' "${command[@]}"
  printf '\n'
else
  "${command[@]}"
fi

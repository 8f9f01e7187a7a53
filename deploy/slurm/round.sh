#!/bin/bash
# A round on a Slurm cluster: its texts by all nodes together, then review, training, evaluation and gate on the first.
#   sbatch deploy/slurm/round.sh /shared/corpus        # the workspace, on a file system that the nodes share
# Its database is PostgreSQL ('flywheel move-database'); PGPASSWORD, or ~/.pgpass, comes from your environment.
# Requeued or sent again after whatever ended it, it goes on where it was.
#SBATCH --job-name=flywheel-round
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=flywheel-%j.log
set -euo pipefail
workspace="${1:?name the folder of the workspace: sbatch deploy/slurm/round.sh FOLDER}"
[ -z "${FLYWHEEL_VENV:-}" ] || . "$FLYWHEEL_VENV/bin/activate"

# A node that goes takes no other with it: what it was at is written by those that are left.
srun --kill-on-bad-exit=0 --no-kill flywheel annotate --join --config "$workspace" ||
  echo "annotate: a task ended early; the round below writes what is missing" >&2

code=0
srun --nodes=1 --ntasks=1 flywheel round --config "$workspace" || code=$?
# 3 is a gate that said no, or that waits for people: the job did what it was to do.
[ "$code" -eq 3 ] && exit 0
exit "$code"

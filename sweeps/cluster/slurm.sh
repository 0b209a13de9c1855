#!/bin/bash
# A sweep on Slurm: `ray symmetric-run` starts Ray on every node, runs the command on the first, and
# ends both. A template, with its form checked but NOT RUN by us. The runs must be on a shared path.
#   sbatch sweeps/cluster/slurm.sh [SWEEP.yaml]      the same again resumes
#SBATCH --job-name=supsup
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=04:00:00
set -euo pipefail

sweep=${1:-sweeps/permuted_2500.yaml}
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=$(head -n 1 <<< "$nodes")
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0   # the token: ~/.ray/auth_token, a shared home has it

srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
  ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
  supsup run "$sweep" executor.address=auto

#!/bin/sh
# Slurm's Epilog, only where GPUs are reset between jobs: the second, after wattkeeper's epilog.sh
# (epilog.d/10-…). A reset needs a GPU that nobody has open, so the agent lets go of it for a minute
# and comes back by itself. The reset opens a new epoch of the counter; no joule is booked twice.
#
# slurm.conf:  Epilog=/etc/slurm/epilog.d/*
#
# It never drains the node: a reset that fails is said to syslog. Another agent that has the GPU open
# (DCGM, nvidia-persistenced) has to let go of it too.

WATTKEEPER="${WATTKEEPER:-/usr/bin/wattkeeper}"
[ -x "$WATTKEEPER" ] || WATTKEEPER=/usr/local/bin/wattkeeper
SMI="${SMI:-/usr/bin/nvidia-smi}"

reset() {
    # SLURM_JOB_GPUS counts by PCI address, as nvidia-smi does.
    timeout 20 "$SMI" --id="$SLURM_JOB_GPUS" --query-gpu=uuid --format=csv,noheader |
        while read -r uuid; do
            timeout 5 "$WATTKEEPER" release --gpu "$uuid" --for 1m
            timeout 30 "$SMI" --gpu-reset --id="$uuid"
        done
}

if [ -n "$SLURM_JOB_GPUS" ] && [ -x "$WATTKEEPER" ] && [ -x "$SMI" ]; then
    reset 2>&1 | timeout 300 logger -t wattkeeper
fi
exit 0

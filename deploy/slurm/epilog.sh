#!/bin/sh
# Slurm's Epilog: the job has its GPUs up to here. Make it the first of several (epilog.d/00-…), so
# that what the others do on the GPUs is not the job's.
#
# slurm.conf:  Epilog=/etc/slurm/epilog.d/*
#
# An epilog that fails drains the node: this one never does. It runs no Slurm command, and the job
# waits for it a second at most, whatever hangs (the agent, the disk, syslog); the mark is then made
# without it. Slurm starts it with an almost empty environment: give WATTKEEPER the full path if it
# is elsewhere.

WATTKEEPER="${WATTKEEPER:-/usr/bin/wattkeeper}"
[ -x "$WATTKEEPER" ] || WATTKEEPER=/usr/local/bin/wattkeeper

if [ -x "$WATTKEEPER" ]; then
    # In a session of its own, since slurmd ends what this script leaves in its own.
    # shellcheck disable=SC2016
    setsid sh -c '"$0" mark end 2>&1 | logger -t wattkeeper' "$WATTKEEPER" \
        </dev/null >/dev/null 2>&1 &
    # Not `timeout` around the mark: it would wait for one that cannot be killed, on a dead disk.
    timeout 1 tail -f -s 0.01 --pid=$! /dev/null 2>/dev/null
fi
exit 0

#!/bin/sh
# Slurm's Prolog: the job has its GPUs from here on. Make it the last of several (prolog.d/99-…), so
# that what the others do on the GPUs is not the job's.
#
# slurm.conf:  Prolog=/etc/slurm/prolog.d/*   PrologFlags=Alloc
#
# A prolog that fails drains the node: this one never does, and never takes longer than 5 s. Slurm
# starts it with an almost empty environment: give WATTKEEPER the full path if it is elsewhere.

WATTKEEPER="${WATTKEEPER:-/usr/bin/wattkeeper}"
[ -x "$WATTKEEPER" ] || WATTKEEPER=/usr/local/bin/wattkeeper

if [ -x "$WATTKEEPER" ]; then
    timeout 5 "$WATTKEEPER" mark start 2>&1 | timeout 5 logger -t wattkeeper
fi
exit 0

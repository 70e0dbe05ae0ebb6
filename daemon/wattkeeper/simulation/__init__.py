"""A fleet whose truth is known: devices, jobs, faults, and a clock that can run fast."""

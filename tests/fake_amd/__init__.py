"""A fake libamd_smi.so whose joules are known."""

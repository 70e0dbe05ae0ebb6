"""A stand-in for the NVIDIA driver library, at the driver's boundary."""

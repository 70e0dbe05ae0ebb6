"""Meters, readings, epochs, holders, windows. Pure: imports nothing of ours."""

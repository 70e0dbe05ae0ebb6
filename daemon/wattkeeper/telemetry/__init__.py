"""The fleet's history: windows as time series, on this machine or in an engine beyond it."""

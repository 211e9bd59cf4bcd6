"""Measurements, printed as tables; nothing here is asserted (the machines are shared and noisy)."""

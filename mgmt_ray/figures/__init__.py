"""Figures: tables in, one matplotlib Figure out; nothing touches pyplot's state."""

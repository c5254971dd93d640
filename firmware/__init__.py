"""Chooses, wires, starts and watches; the command line."""

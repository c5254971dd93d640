"""Chooses, wires, starts and watches; the command line."""

VERSION = "0.1.0"

"""The twins: emulated devices that ship with the product. They import nothing of the drivers they test."""

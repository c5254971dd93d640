"""Everything outside the process (cards, readers, devices), and the emulated twin of each."""

"""The city's back office. An optional extra: no terminal image contains it."""

"""The clerks' pages. Pure but for ``pages`` (jinja2 and FastAPI)."""

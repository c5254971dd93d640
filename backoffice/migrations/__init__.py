"""How the books came to have the tables they have: Alembic's steps, taken by ``backoffice.store.Store.migrate``.

A step that has been released is not changed. What changes the tables is a new step, and the same change in ``backoffice.schema``.
"""

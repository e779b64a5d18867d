"""A small payments service on PostgreSQL and Redis that measures itself with `vedette.instrument`: see README.md."""

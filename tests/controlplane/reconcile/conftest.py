"""Leadership is tested on both databases."""

from tests.doubles.databases import database_url, postgres_server

__all__ = ["database_url", "postgres_server"]

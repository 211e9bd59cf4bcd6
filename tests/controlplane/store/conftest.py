"""The store's tests run on both databases."""

from tests.doubles.databases import database_url, empty_database_url, postgres_server, store

__all__ = ["database_url", "empty_database_url", "postgres_server", "store"]

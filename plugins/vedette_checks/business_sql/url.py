"""The address of a database, as SQLAlchemy has it; an SQLite file may stand beside the YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from vedette import Secret

_ASYNC = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}


class DatabaseUrl(Secret):
    """An SQLAlchemy URL that prints as `****`: it may hold a password."""

    __slots__ = ()

    @property
    def url(self) -> URL:
        """The URL with an asynchronous driver: `postgresql://` is `postgresql+asyncpg://`."""
        made = make_url(self.reveal())
        return made.set(drivername=_ASYNC.get(made.drivername, made.drivername))

    @property
    def dialect(self) -> str:
        """`sqlite`, `postgresql`, …"""
        return self.url.get_backend_name()

    def localized(self, base: Path) -> DatabaseUrl:
        """The same with the path of an SQLite file made absolute: it starts from the YAML file's folder."""
        url = self.url
        if self.dialect != "sqlite" or not url.database or url.database == ":memory:":
            return self
        path = Path(url.database)
        if path.is_absolute():
            return self
        return DatabaseUrl(url.set(database=str(base.absolute() / path)).render_as_string(hide_password=False))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls._checked, super().__get_pydantic_core_schema__(source, handler)
        )

    @classmethod
    def _checked(cls, value: DatabaseUrl) -> DatabaseUrl:
        try:
            url = value.url
            dialect = url.get_dialect()
        except NoSuchModuleError:
            raise ValueError("names a database or driver that is not installed") from None
        except ArgumentError:
            raise ValueError("is no database URL, such as postgresql+asyncpg://user@host/database") from None
        except ModuleNotFoundError as error:
            raise ValueError(f"needs the package {error.name}: pip install it") from None
        if not dialect.is_async:
            raise ValueError("needs an asynchronous driver, such as postgresql+asyncpg or sqlite+aiosqlite")
        return value

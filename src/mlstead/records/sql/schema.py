"""Holds the database at the schema of this code: makes a new one, upgrades an older one."""

import importlib

from mlstead.errors import UserError
from mlstead.records.sql import generated
from mlstead.records.sql.driver import Driver

VERSION_TABLE = "mlstead_schema"


def ensure(driver: Driver) -> None:
    """Make the schema, or bring it to this code's; cheap when there is nothing to do.

    Raises:
        UserError: the database belongs to a newer mlstead, or to something else.
    """
    found = version(driver)
    if found == "":
        found = _create(driver)
    if found == generated.HEAD:
        return
    if found not in generated.REVISIONS:
        raise UserError(
            f"{driver.place}: records of a newer mlstead (schema {found})",
            hint="upgrade mlstead here, or use another home",
        )
    # Alembic and SQLAlchemy take a second to load, so only an older database pays for them.
    migrate = importlib.import_module("mlstead.records.sql.upgrade").upgrade
    migrate(driver.name, driver.connect_plain, driver.begin_text)


def version(driver: Driver) -> str:
    """Read the schema's revision; "" for an empty database.

    Raises:
        UserError: the database holds tables, but not ours.
    """
    connection = driver.connect()
    try:
        return _version(driver, connection)
    finally:
        connection.close()


def _version(driver: Driver, connection: object) -> str:
    tables = driver.tables(connection)
    if VERSION_TABLE in tables:
        rows = driver.execute(connection, f"SELECT version_num FROM {VERSION_TABLE}").fetchall()
        return str(rows[0][0])
    if tables:
        raise UserError(
            f"{driver.place}: a database of something else ({', '.join(sorted(tables)[:3])} …)",
            hint="give mlstead a database, or a schema, of its own",
        )
    return ""


def _create(driver: Driver) -> str:
    """Make the newest schema in one transaction, unless another process just did."""
    connection = driver.connect()
    try:
        driver.begin(connection)
        found = _version(driver, connection)
        if not found:
            for statement in driver.schema.split(";\n"):
                driver.execute(connection, statement)
            found = generated.HEAD
        driver.execute(connection, "COMMIT")
    finally:
        connection.close()
    return found

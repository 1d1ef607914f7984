"""Alembic's entry: runs on the connection that `owui_budget.database.migrate` opened, inside its transaction."""

from alembic import context

from owui_budget.database.migrate import VERSION_TABLE
from owui_budget.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

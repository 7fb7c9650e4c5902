"""Alembic's entry: runs the steps on the connection that `shared.jobs.migrate` opened and locked."""

from alembic import context

from shared.jobs.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=context.config.attributes["version_table"],
)
context.run_migrations()

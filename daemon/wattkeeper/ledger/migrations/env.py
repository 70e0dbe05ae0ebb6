"""Run by Alembic: migrate on the connection that `Ledger.open` hands over."""

from alembic import context

from wattkeeper.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

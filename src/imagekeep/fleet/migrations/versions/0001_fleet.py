"""Make the schema of a fleet's centre: tables, the nodes' functions, views for readers, and privileges.

Revision: 0001
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

FILES = ("tables", "functions", "administration", "views", "privileges")
SQL = Path(__file__).parent

DROP_ALL = """
DO $$
DECLARE
    each record;
BEGIN
    FOR each IN SELECT relname FROM pg_class
        WHERE relnamespace = 'fleet'::regnamespace AND relkind = 'v' LOOP
        EXECUTE format('DROP VIEW IF EXISTS fleet.%I CASCADE', each.relname);
    END LOOP;
    FOR each IN SELECT oid::regprocedure AS named FROM pg_proc WHERE pronamespace = 'fleet'::regnamespace LOOP
        EXECUTE format('DROP FUNCTION IF EXISTS %s CASCADE', each.named);
    END LOOP;
    FOR each IN SELECT relname FROM pg_class
        WHERE relnamespace = 'fleet'::regnamespace AND relkind IN ('r', 'p') AND relname <> 'alembic_version' LOOP
        EXECUTE format('DROP TABLE IF EXISTS fleet.%I CASCADE', each.relname);
    END LOOP;
END $$
"""


def run(sql: str) -> None:
    """Run statements as they are: SQLAlchemy and psycopg would take `:` and `%` for parameters."""
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(sql)


def upgrade() -> None:
    for name in FILES:
        run((SQL / f"{revision}_{name}.sql").read_text(encoding="utf-8"))
    run("SELECT fleet.make_partitions(3)")


def downgrade() -> None:
    run(DROP_ALL)

"""Functions of the database that run with their owner's rights: what each migration that makes some must say of them."""

from collections.abc import Iterable

from core.db import APP_ROLE


def close(names: Iterable[str]) -> str:
    """Statements that let nobody but the processes call these functions, and nobody choose what names in them mean.

    pg_temp comes last, and by name: otherwise it is searched first, and a caller's temporary table would stand in for
    ours (https://www.postgresql.org/docs/current/sql-createfunction.html#SQL-CREATEFUNCTION-SECURITY).
    """
    listed = ", ".join(f"'{name}'" for name in names)
    return f"""
        DO $$
        DECLARE
            made regprocedure;
            definer boolean;
        BEGIN
            FOR made, definer IN
                SELECT oid, prosecdef FROM pg_proc
                WHERE pronamespace = current_schema()::regnamespace AND proname IN ({listed})
            LOOP
                EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', made, current_schema());
                EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', made);
                IF definer THEN
                    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {APP_ROLE}', made);
                END IF;
            END LOOP;
        END $$
    """

from tests.support.jobs import marks, probe_table, submit

__all__ = ["marks", "probe_table", "submit"]

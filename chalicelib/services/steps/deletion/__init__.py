"""The steps that take back what was deleted: objects, rows, and the right to delete again."""

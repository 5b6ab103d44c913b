from typing import Any

from django.db import migrations, router

INDEX = "live_chat_message_words"
MAKE = {
    # The same expression as in searching.py.
    "postgresql": f"CREATE INDEX {INDEX} ON live_chat_message USING gin (to_tsvector('simple', text))",
    "mysql": f"CREATE FULLTEXT INDEX {INDEX} ON live_chat_message (text)",
}
REMOVE = {
    "postgresql": f"DROP INDEX {INDEX}",
    "mysql": f"DROP INDEX {INDEX} ON live_chat_message",
}


class OnVendor(migrations.RunSQL):
    """A statement for some databases; on others there is nothing to do."""

    def __init__(self) -> None:
        super().__init__(sql="", reverse_sql="")

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [], {}

    def database_forwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        self._run(MAKE, app_label, schema_editor)

    def database_backwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        self._run(REMOVE, app_label, schema_editor)

    def _run(self, statements: dict[str, str], app_label: str, schema_editor: Any) -> None:
        connection = schema_editor.connection
        statement = statements.get(connection.vendor)
        if statement and router.allow_migrate(connection.alias, app_label):
            schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("live_chat", "0001_initial")]

    operations = [OnVendor()]

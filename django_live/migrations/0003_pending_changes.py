from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_live", "0002_shared_state"),
    ]

    operations = [
        migrations.CreateModel(
            name="PendingChange",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "source",
                    models.CharField(
                        help_text="The Changes, or the table of a trigger.",
                        max_length=200,
                        verbose_name="source",
                    ),
                ),
                (
                    "object_key",
                    models.CharField(
                        help_text="Digest of the source and the primary key.",
                        max_length=32,
                        verbose_name="object key",
                    ),
                ),
                ("facts", models.TextField(verbose_name="facts")),
                ("due", models.FloatField(db_index=True, default=0.0, verbose_name="due")),
                ("created", models.FloatField(verbose_name="created")),
            ],
            options={
                "verbose_name": "pending change",
                "verbose_name_plural": "pending changes",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["object_key", "id"], name="django_live_pending_object")
                ],
            },
        ),
    ]

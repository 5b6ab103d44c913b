from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Reading",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("sensor", models.CharField(max_length=50)),
                ("value", models.DecimalField(db_column="Wert", decimal_places=10, max_digits=30)),
                ("taken", models.DateTimeField(null=True)),
                ("raw", models.BinaryField(default=b"")),
                ("extra", models.JSONField(default=dict)),
                ("token", models.UUIDField(null=True)),
            ],
        ),
    ]

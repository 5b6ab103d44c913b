from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("django_live", "0004_answers"),
    ]

    operations = [
        migrations.CreateModel(
            name="Broadcast",
            fields=[],
            options={
                "verbose_name": "broadcast",
                "verbose_name_plural": "broadcasts",
                "permissions": (("broadcast", "Can send broadcasts"),),
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("django_live.stateentry",),
        ),
        migrations.CreateModel(
            name="Connection",
            fields=[],
            options={
                "verbose_name": "connection",
                "verbose_name_plural": "connections",
                "permissions": (
                    ("view_connection", "Can view open connections"),
                    ("disconnect_connection", "Can end and re-check open connections"),
                ),
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("django_live.stateentry",),
        ),
        migrations.CreateModel(
            name="LiveTopic",
            fields=[],
            options={
                "verbose_name": "topic",
                "verbose_name_plural": "topics",
                "permissions": (
                    ("view_livetopic", "Can view topics"),
                    ("trim_livetopic", "Can trim the log"),
                    ("replay_livetopic", "Can publish a kept event again"),
                ),
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("django_live.stateentry",),
        ),
        migrations.CreateModel(
            name="Process",
            fields=[],
            options={
                "verbose_name": "process",
                "verbose_name_plural": "processes",
                "permissions": (("view_process", "Can view processes and metrics"),),
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("django_live.stateentry",),
        ),
    ]

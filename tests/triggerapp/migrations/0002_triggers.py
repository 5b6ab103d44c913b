from django.db import migrations

from django_live.features.triggers import LiveTriggers


class Migration(migrations.Migration):
    dependencies = [
        ("triggerapp", "0001_initial"),
        ("django_live", "0003_pending_changes"),
    ]

    operations = [LiveTriggers("triggerapp.Reading")]

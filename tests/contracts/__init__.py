"""What every store has to keep true. These tests name no store: `conftest.py` does."""

"""What every test may use; the fixtures live in tests/support."""

pytest_plugins = ["tests.support.fixtures_kafka"]

"""Where tasks run: one part per engine."""

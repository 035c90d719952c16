"""What runs: settings, wiring and the life cycle of the agent inside the managed plugin."""

"""The ``hawse`` command: asks the agent over its socket and renders the answer."""

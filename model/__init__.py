"""Values of hawse: frozen dataclasses and the rules they keep; standard library only, no I/O."""

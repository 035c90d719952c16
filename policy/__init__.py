"""Policy: documents, selectors, identities, the compiler that fills the maps, and the controller that runs it."""

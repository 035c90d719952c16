"""Address pools and addresses: who holds what, granted by compare-and-swap so that no race can grant it twice."""

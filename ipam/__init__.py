"""Address pools and addresses: one etcd key per address, granted by compare-and-swap."""

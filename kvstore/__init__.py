"""Cluster state: the Store seam, etcd and in-memory stores, keys, and the resyncing watcher."""

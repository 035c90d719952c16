"""Who and what is in the cluster: nodes, networks, endpoints, and the collection of what was left behind."""

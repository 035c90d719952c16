"""The agent's own API for operators: state of the node and of the cluster, its policies, and what became of packets."""

"""The agent's own API for operators: state of the node and of the cluster, read only."""

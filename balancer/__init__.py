"""Services of the Swarm and of labels: who answers for a virtual address."""

"""The Docker side: libnetwork's remote network and IPAM driver protocols over a Unix socket."""

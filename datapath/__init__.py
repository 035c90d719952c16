"""The kernel side: links, tc filters, eBPF programs and maps."""

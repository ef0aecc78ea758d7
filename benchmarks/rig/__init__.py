"""What is measured on: files, servers, children, the machine."""

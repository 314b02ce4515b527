"""What stands between the network and the service: sockets, limits of connections, whom to answer."""

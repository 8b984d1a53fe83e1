"""How a Redis or Valkey server is reached: URLs, clients, connections, discovery."""

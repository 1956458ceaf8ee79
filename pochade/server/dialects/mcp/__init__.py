"""The Model Context Protocol: tools for assistants. Needs the extra 'mcp'."""

"""How clients reach a node: one port for pages, REST and the realtime protocol."""

"""Floor 3: instances that run in a child process, so that nothing they do can hold up or end the agent."""

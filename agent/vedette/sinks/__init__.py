"""The built-in sinks; each module is one entry point and uses only the public names of vedette."""

"""Floor 4: the status page. Imported only where `http:` is configured: it needs starlette, uvicorn and markupsafe."""

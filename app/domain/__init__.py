"""Words and pure rules of the service: no SQL, no HTTP, no asyncio."""

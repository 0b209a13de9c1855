"""The user's own code: found and digested without running it, permitted, imported, and guarded while it runs."""

"""Edit frames with one request: editor, guard, photos, text and retries together."""

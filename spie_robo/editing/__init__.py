"""One request, carried whole: editor, guard, photos, text and retries as one step on frames."""

"""OpenAI's Images API: pictures from any model with a prompt and a picture."""

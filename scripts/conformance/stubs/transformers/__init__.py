"""Stands for transformers, of which the client needs only the download of a tokenizer."""

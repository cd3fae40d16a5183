"""The corpus, its tokenizer, and the iterator that hands out batches."""

//! A small ordered key-value trait with batches: memory, and a file for what must survive.

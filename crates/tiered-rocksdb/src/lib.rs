//! Embedded disk tier for tiered, over RocksDB.

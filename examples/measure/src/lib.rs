//! What the consumers share: an S3 server, a proxy that counts what is asked of it, and tables with bounds.
#![allow(clippy::print_stdout, reason = "tables are what consumers are for")]

pub mod bucket;
pub mod table;
pub mod wire;

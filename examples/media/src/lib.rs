//! A media server over tiered: films, read by ranges over HTTP, and players that check what they get.

pub mod film;
pub mod memory;
pub mod player;
pub mod requests;
pub mod server;

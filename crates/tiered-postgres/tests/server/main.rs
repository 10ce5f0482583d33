//! A server that crashes, and one that speaks TLS.
//!
//! A binary of its own: it kills the server and changes its settings. Only a server that the tests started themselves
//! is treated like that (`TIERED_TEST_POSTGRES_OWN`).

mod own_server;

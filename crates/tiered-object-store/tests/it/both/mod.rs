//! The tests that both versions have.

mod integration;
mod tier;
mod view;

use super::bridge;

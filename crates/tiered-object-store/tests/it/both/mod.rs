//! The tests that both versions have.

mod integration;
mod odd;
mod tier;
mod view;

use super::bridge;

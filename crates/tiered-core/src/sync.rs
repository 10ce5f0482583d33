//! TEMP
#![allow(missing_docs, clippy::all, clippy::pedantic, missing_debug_implementations)]
use serde::{Deserialize, Serialize};
use std::sync::Arc;
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StrategyName {
    PopulateMissing,
}
impl StrategyName {
    pub fn strategy(self) -> Arc<dyn SyncStrategy> {
        unreachable!()
    }
}
pub trait SyncStrategy: std::fmt::Debug + Send + Sync + 'static {}
#[derive(Default, Debug)]
pub struct SyncOptions;
#[derive(Default, Debug)]
pub struct SyncReport;

//! Both directions, for the version of `object_store` that the module above names.

mod attributes;
mod config;
mod copy;
mod delete;
mod error;
mod failure;
mod get;
mod head;
mod level;
mod list;
mod place;
mod probe;
mod put;
mod staged;
mod tier;
mod tier_list;
mod tier_read;
mod tier_write;
mod upload;
mod view;

use super::{get_result, has_tags, list_result, object_store, put_result};
pub use config::ObjectTierConfig;
pub use tier::ObjectTier;
pub use view::ObjectView;

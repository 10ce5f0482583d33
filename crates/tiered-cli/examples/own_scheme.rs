//! The command with an adapter of one's own: a program of a few lines.
//!
//! `cargo run -p tiered-cli --example own_scheme -- conformance small:`
//! `cargo run -p tiered-cli --example own_scheme -- --frontend small:?max_value=4KiB --backend redb:data.redb put k v`

use std::process::ExitCode;

use tiered::adapter::url::{StoreUrl, parse_bytes};
use tiered::{Create, MemoryStore, Result, Schemes};

/// `small:?max_value=…`: in place of your adapter, a store in memory for small values.
async fn small(mut url: StoreUrl, _: Create) -> Result<MemoryStore> {
    // Takes the parameters that it knows, and lets `finish` refuse the others with the list of those.
    let max_value = url.take("max_value").map_or(Ok(64 << 10), |text| parse_bytes(&text))?;
    url.finish(&["max_value"])?;
    Ok(MemoryStore::new().declaring(|capabilities| capabilities.named("small").with_max_value(max_value)))
}

/// What URLs may name in this program.
pub(crate) fn schemes() -> Schemes {
    Schemes::standard().with("small", small)
}

fn main() -> ExitCode {
    tiered_cli::main_with(schemes())
}
